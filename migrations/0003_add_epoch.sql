-- In which epoch of the database a file was last written: which server, which timeline
-- (a promotion begins one), which table.  What comes back from a standby or a backup
-- is another epoch, and may lack events that clients have seen.
-- Locks: files, exclusively.  Duration: an instant.  Back out: drop the column, then the
-- function.  The release before this one takes no notice of either.

create function reelready_epoch() returns text stable language plpgsql as $$
begin
    return (
        select concat_ws(
            '/', system_identifier,
            left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), 'files'::regclass::oid
        )
        from pg_control_system()
    );
exception
    -- Nobody knows what the server does not tell.
    when insufficient_privilege or feature_not_supported
        or object_not_in_prerequisite_state then return null;
end
$$;

alter table files add column epoch text default reelready_epoch();
