-- Reads a time, or gives null: one that is none must not fail a statement about many files.
-- Locks: none.  Duration: an instant.  Back out: drop the function.  The release before this
-- one takes no notice of it.

create function reelready_time(said text) returns timestamptz stable language plpgsql as $$
begin
    return said::timestamptz;
exception
    when data_exception then return null;
end
$$;
