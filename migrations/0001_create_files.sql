-- Files, their events, and what ingest has answered.
-- Locks: none on existing tables.  Duration: instant.  Back out: drop the three tables.

create table files (
    id text primary key,
    -- Newest event of this file; taken under this row's lock, so gapless.
    seq integer not null,
    status text not null,
    owner text,
    attempt integer not null,
    -- The FILE document as of seq, byte for byte what the newest event carries.
    state json not null,
    -- MediaConvert job id -> attempt.
    jobs json not null,
    progressed_at timestamptz,
    -- Silence until then ends the file; null when it has ended.
    deadline_at timestamptz,
    created_at timestamptz not null
);

create index files_deadline on files (deadline_at) where deadline_at is not null;

create table events (
    file_id text not null references files (id) on delete cascade,
    seq integer not null,
    type text not null,
    sender text,
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    state json not null,
    primary key (file_id, seq)
);

-- What was answered to each webhook-id, so that a repeat gets the same answer.
create table ingest_ids (
    webhook_id text primary key,
    digest bytea not null,
    outcome text not null,
    seq integer not null,
    expires_at timestamptz not null
);

create index ingest_ids_expiry on ingest_ids (expires_at);
