//! Every limit, with its unit and its reason, and what must agree between them.

use std::time::Duration;

/// Characters of a prompt, after normalisation. The providers' own limits lie far above.
pub const PROMPT_CHARS_MAX: usize = 4_000;
/// A submission's body. 4,000 characters of four bytes each, escaped, would be more; such prompts are refused with 413.
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// A prompt up to this long is kept in the job record itself, which stays within one write unit (1 KB) unless the
/// user's id is unusually long.
pub const PROMPT_INLINE_BYTES_MAX: usize = 512;
/// A job's metadata as JSON without spaces: what one body can bring.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;
/// Objects and arrays in one another in a job's metadata, the outermost included.
pub const METADATA_DEPTH_MAX: usize = 8;
/// Tries of a patch that others overtake: each refusal means that another was written, so fifty at once are all kept.
pub const METADATA_TRIES_MAX: u32 = 60;
/// And no try begins later: the answer has to come before the function's time is over.
pub const METADATA_PATIENCE: Duration = Duration::from_secs(15);

/// The shortest deadline a caller may ask for: a usual call fits in it, a message made up for does not.
pub const DEADLINE_MIN: Duration = Duration::from_secs(30);
/// A single job's deadline, unless the operator sets another.
pub const DEADLINE: Duration = Duration::from_secs(3_600);

/// One provider call, connection to last byte.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(90);
/// One call to Forge, which draws one picture after the other on the operator's own machine.
pub const FORGE_CALL_TIMEOUT: Duration = Duration::from_secs(180);
/// What an invocation must have left beside a call's time-out to start it: storing and settling take the rest.
pub const AFTER_CALL: Duration = Duration::from_secs(20);
/// A settlement whose picture would be lost goes on for this long while other writes of the owner's balance are in its
/// way: what [`AFTER_CALL`] leaves when storing the picture took the longest it may.
pub const WORKER_SETTLE_PATIENCE: Duration = Duration::from_secs(10);
/// Any other write goes on for this long: the next sweep or the caller comes again.
pub const SETTLE_PATIENCE: Duration = Duration::from_secs(2);
/// The worker waits at most this long for a slot; a later slot defers the job.
pub const SLOT_WAIT_MAX: Duration = Duration::from_secs(20);
/// A job that waits for quota is woken this long before its slot: a message's delay is in whole seconds, and the worker
/// has to reserve and claim before the slot's second.
pub const SLOT_EARLY: Duration = Duration::from_secs(3);
/// A message that is this much too early comes from a machine whose clock is ahead: giving it up would leave the job to the
/// next sweep that finds it due, two minutes later.
pub const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(2);
/// The worker function's time-out (template).
pub const WORKER_TIMEOUT: Duration = Duration::from_secs(230);
/// The lease outlives the invocation by this: clocks differ a little between machines.
pub const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// The longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(240);
/// The queue's visibility time-out (template): six times the function's, as AWS advises for event sources.
pub const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(1_380);
/// bulk's time-out (template): the longest that Lambda allows.
pub const BULK_TIMEOUT: Duration = Duration::from_secs(900);
/// Its queue's visibility time-out (template): six times the function's. What a dead one left is taken up sooner, by the sweeper.
pub const BULK_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(5_400);
/// submit's and api's time-out (template): an HTTP API gives up at 30 s.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(29);
/// The sweeper's time-out (template): shorter than its schedule, so that one never overlaps the next.
pub const SWEEPER_TIMEOUT: Duration = Duration::from_secs(58);
/// From one sweep to the next (template's schedule).
pub const SWEEP: Duration = Duration::from_secs(60);
/// The sweeper reads the due index this often while it is up.
pub const SWEEP_READ: Duration = Duration::from_secs(5);
/// How far ahead of its second a due job is sent, with `DelaySeconds` for the rest.
pub const SWEEP_AHEAD: Duration = Duration::from_secs(20);
/// A processing job without a live lease for this long would be stuck: never happens when lease + one sweep fit in it.
pub const STUCK: Duration = Duration::from_secs(300);
/// A message that has not led to a claim by then is taken for lost and sent again.
pub const WAKE: Duration = Duration::from_secs(120);
/// Messages sent again for one wait. Each comes four times later than the one before.
pub const WAKES_MAX: u32 = 3;

/// Attempts per job.
pub const ATTEMPTS_MAX: u32 = 3;
/// Provider calls per job.
pub const CALLS_MAX: u32 = 6;
/// Jobs of one user that may be unsettled at a time.
pub const INFLIGHT_MAX: u64 = 100;
/// Days a settled record is kept.
pub const TTL_DAYS: u64 = 90;
/// Days a published record is kept.
pub const PUBLISHED_TTL_DAYS: u64 = 400;
/// No record is kept for more days after its job ended, however often it is published: its picture goes then.
pub const RECORD_DAYS_MAX: u64 = 400;
/// Days after which the bucket deletes a picture (template).
pub const IMAGE_DAYS: u64 = 401;
/// Of a user's jobs so many, the newest, are looked at when the drafts are listed.
pub const LIST_SWEEP_JOBS: usize = 200;

/// A job that waits for quota or a breaker is looked at again at least this often: a person may have added a key or cleared a
/// scope, and its time may be over before.
pub const WAIT_LOOK: Duration = Duration::from_secs(300);
/// The provider's minute.
pub const QUOTA_MINUTE: Duration = Duration::from_secs(60);
/// Reservations of one minute are kept in at most this many blocks per scope.
pub const MARKS_MAX: usize = 64;

/// Failures in a row that open a breaker.
pub const BREAKER_FAILURES: u32 = 5;
/// How long a breaker is open the first time.
pub const BREAKER_OPEN: Duration = Duration::from_secs(60);
/// A breaker is never open longer at a time.
pub const BREAKER_OPEN_MAX: Duration = Duration::from_secs(300);
/// Rounds in which every scope was refused that open a breaker.
pub const EXHAUSTED_ROUNDS: u32 = 3;
/// A breaker's record is read again when the last look is older.
pub const BREAKER_READ: Duration = Duration::from_secs(1);

/// Longest picture body from a provider.
pub const IMAGE_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Longest side of a picture.
pub const IMAGE_SIDE_MAX: u32 = 4_096;
/// Largest decoded picture.
pub const IMAGE_DECODED_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Longest picture that jobs are drawn from. Gemini takes a request of 20 MB in all, of which its base64 is 4/3; and a worker
/// that draws ten at a time holds each twice.
pub const REFERENCE_BYTES_MAX: u64 = 7 * 1024 * 1024;
/// A new job may name an upload for so long.
pub const UPLOAD_USE: Duration = Duration::from_secs(86_400);
/// Days after which the bucket deletes what no job has named (template).
pub const UPLOAD_UNUSED_DAYS: u64 = 3;
/// Days after which it deletes the rest (template): a job that has failed can be tried again for as long as its record is kept.
pub const UPLOAD_DAYS: u64 = 404;
/// The longest deadline that an operator may set.
pub const DEADLINE_MAX: Duration = Duration::from_secs(86_400);

/// Requests of a batch that are sent with it; more come by an upload.
pub const BATCH_INLINE_MAX: usize = 100;
/// Lines of an upload that a batch is made of.
pub const BATCH_LINES_MAX: usize = 10_000;
/// A batch's body: a hundred requests that are each a little shorter than a single one may be, which Lambda takes six times over.
pub const BATCH_BODY_BYTES_MAX: usize = 1024 * 1024;
/// An upload that a batch is made of: 10,000 lines of 1,600 bytes. submit reads it whole.
pub const BATCH_UPLOAD_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Invalid lines that a batch is taken with: each is told with its reason, from one item of 400 KB at most (DynamoDB's limit). Who
/// has more has sent another file than was meant.
pub const BATCH_INVALID_MAX: usize = 500;
/// What is told of one invalid line.
pub const BATCH_REASON_CHARS: usize = 170;
/// Pictures that the lines of one batch are drawn from: each is looked for before it is taken.
pub const BATCH_REFERENCES_MAX: usize = 100;
/// Jobs are made of a batch in transactions of so many writes, what is kept beside their records counted: DynamoDB takes 100, of
/// which one is the batch's own.
pub const BATCH_WRITES_MAX: usize = 99;
/// The shortest time that a batch has.
pub const BATCH_DEADLINE_MIN: Duration = Duration::from_secs(3_600);
/// submit makes jobs of a batch for this long; the rest is bulk's.
pub const BATCH_SUBMIT_PATIENCE: Duration = Duration::from_secs(10);
/// bulk begins no transaction when its invocation ends within this: one that meets others goes on for nine seconds.
pub const BATCH_BULK_MARGIN: Duration = Duration::from_secs(20);
/// A batch that is cancelled has its waiting jobs ended for this long; then its owner is asked to come again.
pub const BATCH_CANCEL_PATIENCE: Duration = Duration::from_secs(18);
/// Days after which the bucket deletes a batch's lines (template).
pub const BATCH_LINES_DAYS: u64 = 3;

/// A heartbeat younger than this shows a live function.
pub const HEARTBEAT_STALE: Duration = Duration::from_secs(120);
/// A heartbeat is written when the last is older than this.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(30);
/// Progress is written at most this often, and only for calls that last longer.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Entries of the waiting index that one look at the queue reads.
pub const POSITION_ENTRIES_MAX: usize = 1_000;
/// An index shows a write at most this much later. AWS says "within a fraction of a second" and gives no bound.
pub const INDEX_LAG: Duration = Duration::from_secs(2);
/// An entry younger than this may not be seen yet: its wait counts from a clock that was read before the write, and no
/// writer goes on for longer than the sweeper, whose one reading serves a whole pass.
pub const POSITION_SETTLE: Duration = Duration::from_secs(SWEEPER_TIMEOUT.as_secs() + INDEX_LAG.as_secs());
/// A process remembers the places that it told of the last so many waits, and of as many before them (about 2 MB).
pub const POSITIONS_TOLD_MAX: usize = 5_000;
/// Shards of the due and waiting indexes: 8 × 1,000 writes per second.
pub const INDEX_SHARDS: u64 = 8;

/// A ticket opens a connection within this time.
pub const TICKET_LIFE: Duration = Duration::from_secs(60);
/// API Gateway ends a connection after two hours (its quota "connection duration for WebSocket API").
pub const CONNECTION_LIFE: Duration = Duration::from_secs(7_200);
/// A connection that was stored longer ago than this is open, or has ended: API Gateway waits no longer for `$connect`.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(29);
/// API Gateway ends a connection without messages after ten minutes (its quota "idle connection timeout").
pub const CONNECTION_IDLE: Duration = Duration::from_secs(600);
/// Connections of one user at a time; one more ends the oldest. A page that is reloaded leaves one that nobody ended.
pub const CONNECTIONS_MAX: usize = 10;
/// A connection is heard this often at most; a client that sends faster is cut off.
pub const CLIENT_MESSAGE_EVERY: Duration = Duration::from_secs(1);
/// Jobs that one `sync` may name: API Gateway takes frames of 32 KB, and an id with its quotes and comma has 59 bytes.
pub const SYNC_JOBS_MAX: usize = 200;
/// What is told to a connection at once, over all connections of an invocation.
pub const PUSHES_AT_ONCE: usize = 96;
/// Changes of one invocation at most (template).
pub const CHANGES_AT_ONCE: usize = 100;
/// One message to one connection, its second try included. Whoever cannot take it by then is cut off, and comes again.
pub const PUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// The notifier's time-out (template): a full batch of changes, of users with all their connections, some of which hang.
pub const NOTIFIER_TIMEOUT: Duration = Duration::from_secs(60);
/// A change that connections could not be told for this long is not told them any more: what their clients see next is newer.
pub const PUSH_AGE_MAX: Duration = Duration::from_secs(60);
/// A change is handled until its webhooks' messages are put: for as long as the stream keeps it (template).
pub const CHANGE_AGE_MAX: Duration = Duration::from_secs(86_400);
/// Tries of a change (template): the most that Lambda takes. Its age is the bound.
pub const CHANGE_TRIES_MAX: u32 = 10_000;

/// Endpoints of one user: their records are one item, and each change is told to all of them.
pub const WEBHOOKS_MAX: usize = 10;
/// Secrets of an endpoint that sign at the same time: a rotation whose answer was lost is made again, and must not silence a
/// receiver that still has an earlier one.
pub const WEBHOOK_SECRETS_MAX: usize = 4;
/// An endpoint's earlier secret signs beside the new one for this long.
pub const WEBHOOK_ROTATION: Duration = Duration::from_secs(86_400);
/// An endpoint that nothing has arrived at for this long is disabled.
pub const WEBHOOK_FAILING_MAX: Duration = Duration::from_secs(5 * 86_400);
/// One call: name look-up, connection, TLS, sending and the answer.
pub const WEBHOOK_CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is read this far.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// And so much of it is kept for the delivery log.
pub const WEBHOOK_ANSWER_BYTES_KEPT: usize = 1_024;
/// A delivery that was put is due after this, unless its call has been noted.
pub const WEBHOOK_LOOK: Duration = Duration::from_secs(60);
/// One that was woken is due again after this, unless its call has been noted: longer, so that a queue that is behind is not
/// filled with the same deliveries again.
pub const WEBHOOK_WAKE: Duration = Duration::from_secs(300);
/// A delivery is kept for so long after its change, or after it was sent again: for the log, and to be sent again.
pub const DELIVERY_LIFE: Duration = Duration::from_secs(7 * 86_400);
/// Shards of the index of due deliveries: 4 × 1,000 writes per second, and a message makes three at least.
pub const DELIVERY_SHARDS: u64 = 4;
/// The webhooks' queue's visibility time-out (template): six times the notifier's.
pub const WEBHOOK_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(360);

/// Days that one export may span, the first and the last included.
pub const EXPORT_DAYS_MAX: i32 = 365;
/// Exports of one user that may be under way at a time: each reads all that its days hold.
pub const EXPORTS_LIVE_MAX: u64 = 3;
/// Whoever writes an export has died when it has not said otherwise for this long.
pub const EXPORT_LEASE: Duration = Duration::from_secs(120);
/// It says so this often, and with each part.
pub const EXPORT_RENEW: Duration = Duration::from_secs(30);
/// A message that has not led to a claim by then is taken for lost and sent again.
pub const EXPORT_WAKE: Duration = Duration::from_secs(120);
/// Claims of an export without any progress.
pub const EXPORT_TRIES_MAX: u32 = 5;
/// An export's deadline. A million jobs take 20 minutes ([`EXPORT_PAGE_EVERY`]).
pub const EXPORT_DEADLINE: Duration = Duration::from_secs(6 * 3_600);
/// An invocation gives an export back this long before it ends: one more page is read and written by then.
pub const EXPORT_HANDOVER: Duration = Duration::from_secs(45);
/// One page is read this often: 1,000 entries of 200 bytes are 50 read units, 100 jobs of a kilobyte as many again. So an export
/// reads its user's partition of the ledger at 500 units a second, of 3,000 that DynamoDB allows a partition.
pub const EXPORT_PAGE_EVERY: Duration = Duration::from_millis(100);
/// Entries of one page.
pub const EXPORT_ENTRIES: u16 = 1_000;
/// Jobs of one page: what one BatchGetItem reads.
pub const EXPORT_JOBS: usize = 100;
/// A part is sent to S3 when it is this long. S3 takes none below 5 MiB but the last.
pub const EXPORT_PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts of one file: their names stand in the record, 40 bytes each.
pub const EXPORT_PARTS_MAX: usize = 1_000;
/// Days that a finished export's record is kept.
pub const EXPORT_RECORD_DAYS: u64 = 7;
/// Days after which the bucket deletes its file (template).
pub const EXPORT_FILE_DAYS: u64 = 8;
/// A link to the file lives this long.
pub const EXPORT_LINK_LIFE: Duration = Duration::from_secs(3_600);

const _: () = {
    assert!(EXPORT_PART_BYTES >= 5 * 1024 * 1024, "S3 takes no smaller part but the last");
    assert!(EXPORT_RECORD_DAYS < EXPORT_FILE_DAYS, "a file outlives the last link that is given out to it");
    assert!(EXPORT_DEADLINE.as_secs() < 86_400, "the bucket aborts what was begun a day ago");
    assert!(EXPORT_RENEW.as_secs() * 3 < EXPORT_LEASE.as_secs(), "a lease outlives what delays its renewal");
    assert!(EXPORT_HANDOVER.as_secs() < BULK_TIMEOUT.as_secs(), "an invocation gets further");
    assert!(
        TICKET_LIFE.as_secs() < CONNECTION_IDLE.as_secs(),
        "a client has time to ask before it is cut off"
    );
    assert!(NOTIFIER_TIMEOUT.as_secs() < CHANGE_AGE_MAX.as_secs(), "a batch that timed out is tried again");
    // Each cut off afterwards, for as long again.
    assert!(
        2 * (CHANGES_AT_ONCE * CONNECTIONS_MAX).div_ceil(PUSHES_AT_ONCE) as u64 * PUSH_TIMEOUT.as_secs()
            < NOTIFIER_TIMEOUT.as_secs(),
        "a batch ends in time although every connection of its users hangs"
    );
    assert!(
        WEBHOOK_CALL_TIMEOUT.as_secs() * 3 <= NOTIFIER_TIMEOUT.as_secs(),
        "a batch of calls, side by side, ends within its invocation with its reads and notes"
    );
    assert!(
        WEBHOOK_CALL_TIMEOUT.as_secs() * 3 <= WEBHOOK_LOOK.as_secs(),
        "a call is noted before it is looked for"
    );
    assert!(WEBHOOK_LOOK.as_secs() <= WEBHOOK_WAKE.as_secs(), "the longer it waits, the rarer it is woken");
    assert!(
        WEBHOOK_VISIBILITY_TIMEOUT.as_secs() >= 6 * NOTIFIER_TIMEOUT.as_secs(),
        "AWS: visibility at least six times the function's time-out"
    );
    assert!(PUSH_AGE_MAX.as_secs() <= CHANGE_AGE_MAX.as_secs(), "what is told is handled");
    assert!(
        WEBHOOK_FAILING_MAX.as_secs() < DELIVERY_LIFE.as_secs(),
        "what disabled an endpoint stands in its log"
    );
    assert!(SYNC_JOBS_MAX * 59 < 32 * 1024, "a sync that names as many jobs as it may fits in a frame");
    assert!(
        SLOT_WAIT_MAX.as_secs() + CALL_TIMEOUT.as_secs() + AFTER_CALL.as_secs() <= WORKER_TIMEOUT.as_secs(),
        "a worker can wait for a slot, call once and settle"
    );
    assert!(
        SLOT_WAIT_MAX.as_secs() + FORGE_CALL_TIMEOUT.as_secs() + AFTER_CALL.as_secs()
            <= WORKER_TIMEOUT.as_secs(),
        "and so it can with Forge"
    );
    assert!(
        WORKER_TIMEOUT.as_secs() + LEASE_MARGIN.as_secs() <= LEASE_MAX.as_secs(),
        "the lease outlives the invocation"
    );
    assert!(
        LEASE_MAX.as_secs() + SWEEP.as_secs() <= STUCK.as_secs(),
        "a dead worker's job is found before it counts as stuck"
    );
    assert!(
        VISIBILITY_TIMEOUT.as_secs() >= 6 * WORKER_TIMEOUT.as_secs(),
        "AWS: visibility at least six times the function's time-out"
    );
    assert!(
        BULK_VISIBILITY_TIMEOUT.as_secs() >= 6 * BULK_TIMEOUT.as_secs(),
        "the same of the queue of what takes long"
    );
    assert!(SWEEPER_TIMEOUT.as_secs() < SWEEP.as_secs(), "sweeps do not overlap");
    assert!(
        HTTP_TIMEOUT.as_secs() <= SWEEPER_TIMEOUT.as_secs(),
        "no submission is written later than a sweep"
    );
    assert!(HTTP_TIMEOUT.as_secs() < 30, "HTTP APIs end an integration at 30 s");
    assert!(STUCK.as_secs() <= DEADLINE.as_secs(), "stuck is found before the deadline");
    assert!(SWEEP_READ.as_secs() < SWEEP_AHEAD.as_secs(), "each due second is seen ahead of time");
    assert!(ATTEMPTS_MAX <= CALLS_MAX, "each attempt makes at least one call");
    assert!(
        TTL_DAYS <= PUBLISHED_TTL_DAYS && PUBLISHED_TTL_DAYS <= RECORD_DAYS_MAX,
        "what is published is kept longer"
    );
    assert!(
        WORKER_TIMEOUT.as_secs() < (IMAGE_DAYS - RECORD_DAYS_MAX) * 86_400,
        "a picture, stored by the invocation that settles its job, outlives the record"
    );
    assert!(REFERENCE_BYTES_MAX <= IMAGE_BYTES_MAX as u64, "a reference is checked as any picture is");
    assert!(
        UPLOAD_USE.as_secs() + DEADLINE_MAX.as_secs() + STUCK.as_secs() < UPLOAD_UNUSED_DAYS * 86_400,
        "a job that names an upload at the last moment is over before that could go, marked or not"
    );
    assert!(
        UPLOAD_USE.as_secs() + 2 * DEADLINE_MAX.as_secs() + RECORD_DAYS_MAX * 86_400 < UPLOAD_DAYS * 86_400,
        "a reference outlives the record of the job that named it, and a job that tries this one again on its last day"
    );
    assert!(
        DEADLINE_MAX.as_secs() + STUCK.as_secs() < BATCH_LINES_DAYS * 86_400,
        "a batch is over before its lines go"
    );
    assert!(
        // Four bytes are the longest character; 100 are the names and numbers around it.
        BATCH_INVALID_MAX * (BATCH_REASON_CHARS * 4 + 100) < 400 * 1024,
        "all invalid lines fit in one item"
    );
    assert!(
        BATCH_WRITES_MAX * (BODY_BYTES_MAX + 2_048) < 4 * 1024 * 1024,
        "the longest lines fit in one transaction"
    );
    assert!(
        BATCH_SUBMIT_PATIENCE.as_secs() * 2 < HTTP_TIMEOUT.as_secs()
            && BATCH_CANCEL_PATIENCE.as_secs() + 10 < HTTP_TIMEOUT.as_secs(),
        "a batch is answered in time"
    );
    assert!(PROMPT_CHARS_MAX < BODY_BYTES_MAX, "the longest ASCII prompt fits in a body");
};
