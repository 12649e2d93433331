-- The janitor finds old progress and files that never came without reading all.
-- Locks: writes to events and files while the indexes are built.
-- Duration: some seconds per million rows.  Back out: drop the two indexes.

create index events_progress_age on events (recorded_at) where type = 'progress';

create index files_expired_age on files (created_at) where status = 'expired';
