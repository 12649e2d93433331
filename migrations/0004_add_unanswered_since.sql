-- Since when AWS gives no answer about a file whose time is over, whichever worker asks.
-- Locks: files, exclusively.  Duration: an instant.  Back out: drop the column.  The
-- release before this one takes no notice of it.

alter table files add column unanswered_since timestamptz;
