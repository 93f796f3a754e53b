-- The thread table of `sigwindow analyze` (--ready auto --signals async) in DuckDB's SQL, and its summary. Left out are
-- `uncertain` and `creator_stack`. benchmarks/engine.py times it; tests/test_duckdb.py compares it with the engine, row
-- by row. `source` has the columns of docs/events.md.
-- Taken for granted: no loss, exec, fork or SA_RESETHAND, and no two events of one process at one time.

SET preserve_insertion_order = false;
CREATE TYPE kinds AS ENUM (
    'snapshot', 'born', 'start', 'mask', 'altstack', 'action', 'generate', 'deliver', 'return', 'mark', 'name', 'exec',
    'exit', 'lost'
);

-- The class async: all signals but the thread's own faults, 32 and 33, KILL and STOP.
CREATE TEMP MACRO considered(signals) AS signals & 18446744066193095207::UBIGINT;
CREATE TEMP MACRO bit_of(signal) AS 1::UBIGINT << ((signal + 63) % 64)::UBIGINT; -- 0 is no signal, but no error either
-- KILL, STOP and 32 to 34 may be left out.
CREATE TEMP MACRO blocks_everything(mask) AS mask | 15032647936::UBIGINT = 18446744073709551615::UBIGINT;

-- A stream can be read only once. An enum is faster, and smaller, than DuckDB's own choice, text.
CREATE TEMP TABLE events AS
SELECT time_ns, kind::kinds AS kind, pid, tid, mask, altstack, handled, signal, disposition, sa_flags, peer, flags, comm
FROM source;

-- The handled set of each process, and from when until when.
CREATE TEMP TABLE handlers AS
SELECT
    pid, handled, time_ns AS from_ns,
    lead(time_ns, 1, 9223372036854775807) OVER (PARTITION BY pid ORDER BY time_ns) AS until_ns
FROM (
    SELECT pid, min(time_ns) AS time_ns, arg_min(handled, time_ns) AS handled
    FROM events WHERE kind = 'born' GROUP BY pid
    UNION ALL
    SELECT pid, time_ns, handled FROM events WHERE kind = 'action'
);

-- The events of born threads. An id can be used again: a life begins at the last birth. A mask holds until the life's
-- next event, or the trace's end; where an exit was lost, nothing is known after the life's last event. What is sent to
-- a thread is no event of its own.
CREATE TEMP TABLE lives AS
SELECT
    * EXCLUDE (own_ns, had_stack),
    kind = 'altstack' AND NOT altstack AND had_stack AS removes,
    CASE WHEN kind = 'exit' THEN time_ns ELSE greatest(time_ns, coalesce(own_ns, (SELECT max(time_ns) FROM events))) END
        AS next_ns
FROM (
    SELECT
        time_ns, kind, pid, tid, mask, altstack, signal, disposition, sa_flags, peer, flags,
        if(kind IN ('born', 'name'), comm, NULL) AS comm,
        -- 0: not judged, a process's first thread or the kernel's own
        last_value(if(kind = 'born', if(flags & 65537 = 65536, time_ns, 0), NULL) IGNORE NULLS) OVER so_far AS born_ns,
        last_value(if(kind = 'altstack' AND altstack, time_ns, NULL) IGNORE NULLS) OVER so_far AS installed_ns,
        lead(CASE WHEN kind = 'born' THEN 0 WHEN kind = 'altstack' AND altstack THEN time_ns END IGNORE NULLS)
            OVER life AS install_ns, -- the next one
        lead(CASE WHEN kind = 'born' THEN 0 WHEN kind <> 'generate' THEN time_ns END IGNORE NULLS) OVER life AS own_ns,
        lag(if(kind <> 'generate', altstack, NULL) IGNORE NULLS) OVER life AS had_stack
    FROM events
    WINDOW life AS (PARTITION BY tid ORDER BY time_ns), so_far AS (life ROWS UNBOUNDED PRECEDING)
)
WHERE born_ns > 0;
DROP TABLE events;

CREATE TEMP TABLE stacked AS SELECT DISTINCT pid FROM lives WHERE kind = 'altstack' AND altstack;

-- When the threads of all other processes are ready: at the first step to the last state before teardown, which is a
-- block of everything (B) and the stack's removal (R) right before an exit that is the thread's own (X).
CREATE TEMP TABLE steady AS
WITH steps AS (
    SELECT
        tid, born_ns, time_ns, kind, mask, altstack,
        CASE
            WHEN kind = 'mask' AND blocks_everything(mask) THEN 'B'
            WHEN kind = 'altstack' AND NOT altstack THEN 'R'
            WHEN kind = 'exit' AND flags & 1 = 0 THEN 'X'
            ELSE '-'
        END AS code,
        concat(code, lead(code) OVER life, lead(code, 2) OVER life, lead(code, 3) OVER life)
            IN ('BX', 'RX', 'RBX', 'BRX', 'BRBX') AS teardown
    FROM lives
    WHERE kind IN ('born', 'mask', 'altstack', 'exit') AND pid NOT IN (FROM stacked)
    WINDOW life AS (PARTITION BY tid, born_ns ORDER BY time_ns)
),
states AS (
    SELECT
        tid, born_ns,
        bool_or(kind = 'born' AND blocks_everything(mask)) AS born_blocked,
        count_if(kind <> 'born') AS steps,
        bool_or(kind = 'mask') AS masked,
        min(time_ns) AS first_ns,
        max(time_ns) FILTER (NOT teardown) AS last_ns,
        min(time_ns) FILTER (kind <> 'born') AS first_step_ns,
        max(time_ns) FILTER (kind <> 'born' AND NOT teardown) AS last_step_ns
    FROM steps WHERE kind <> 'exit' GROUP BY tid, born_ns, mask, altstack
)
SELECT
    tid, born_ns,
    CASE
        WHEN NOT bool_or(born_blocked) THEN arg_max(first_ns, last_ns)
        WHEN bool_or(masked) THEN arg_max(first_step_ns, last_step_ns)
        WHEN sum(steps) > 0 THEN arg_max(first_ns, last_ns)
    END AS ready_ns
FROM states GROUP BY tid, born_ns;

-- Each life in pieces of one mask and one handled set.
CREATE TEMP VIEW pieces AS
SELECT
    lives.* EXCLUDE (mask, install_ns, installed_ns), mask, handled,
    stacked.pid IS NOT NULL AS by_stack,
    if(by_stack, nullif(install_ns, 0), steady.ready_ns) AS stop_ns, -- while it is not ready
    if(by_stack, installed_ns IS NULL OR installed_ns < lives.born_ns, stop_ns IS NULL OR time_ns < stop_ns)
        AS setting_up,
    greatest(time_ns, from_ns) AS start_ns,
    least(next_ns, until_ns) - start_ns AS ns,
    handled & ~mask AS open,
    considered(open) <> 0 AS exposed,
    setting_up AND ns > 0 AS in_window,
    kind = 'deliver' AND disposition = 2 AND considered(bit_of(signal)) <> 0 AND setting_up AND from_ns <= time_ns
        AS hit,
    hit AND sa_flags & 134217728 <> 0 AND NOT altstack AS critical -- SA_ONSTACK
FROM lives
JOIN handlers ON lives.pid = handlers.pid AND from_ns < greatest(next_ns, time_ns + 1) AND until_ns > time_ns
LEFT JOIN stacked ON lives.pid = stacked.pid
LEFT JOIN steady ON lives.tid = steady.tid AND lives.born_ns = steady.born_ns
WHERE kind <> 'generate';

CREATE TEMP TABLE threads AS
WITH measured AS MATERIALIZED (
    SELECT
        any_value(pid) AS pid, tid,
        arg_max(comm, time_ns) FILTER (comm IS NOT NULL) AS comm,
        born_ns,
        any_value(stop_ns) FILTER (kind = 'born') AS ready_ns,
        max(next_ns) AS end_ns,
        CASE WHEN ready_ns IS NOT NULL THEN 'ready' WHEN bool_or(kind = 'exit') THEN 'exit' ELSE 'trace' END
            AS ended_by,
        any_value(mask) FILTER (kind = 'born') AS birth_mask,
        coalesce(ready_ns, end_ns) - born_ns AS setup_ns,
        coalesce(sum(ns) FILTER (in_window AND exposed), 0)::BIGINT AS exposure_ns,
        coalesce(bit_or(open) FILTER (in_window), 0) AS open_signals,
        considered(open_signals) AS exposed_signals,
        min(start_ns) FILTER (in_window AND exposed) AS first_exposed_ns,
        count_if(hit)::BIGINT AS hits,
        count_if(critical)::BIGINT AS critical_hits,
        any_value(peer) FILTER (kind = 'born') AS creator_tid,
        if(any_value(by_stack), 'altstack', 'steady') AS policy,
        coalesce(bit_or(handled) FILTER (in_window OR start_ns = born_ns), 0) AS handled_signals,
        CASE
            WHEN critical_hits > 0 THEN 'critical'
            WHEN hits > 0 THEN 'hit'
            WHEN exposure_ns > 0 THEN 'exposed'
            WHEN considered(handled_signals) <> 0 THEN 'masked'
            ELSE 'unhandled'
        END AS verdict,
        ready_ns IS NOT NULL AS ready
    FROM pieces GROUP BY tid, born_ns
),
-- Signals sent to a thread that held them back, and those that its handlers took.
signals AS (
    SELECT
        tid, born_ns,
        count_if(kind = 'generate' AND time_ns < ready_ns) AS sent,
        count_if(kind = 'deliver' AND time_ns < ready_ns) AS taken_before,
        count_if(kind = 'deliver' AND time_ns > ready_ns) AS taken_after
    FROM lives JOIN measured USING (tid, born_ns)
    WHERE considered(bit_of(signal)) <> 0
        AND (
            kind = 'generate' AND flags & 511 = 0 AND mask & bit_of(signal) <> 0 OR kind = 'deliver' AND disposition = 2
        )
    GROUP BY tid, born_ns, signal
),
held_back AS (
    SELECT tid, born_ns, sum(least(greatest(sent - taken_before, 0), taken_after))::BIGINT AS deferred
    FROM signals GROUP BY tid, born_ns
),
removals AS MATERIALIZED (
    SELECT tid, born_ns, max(time_ns) AS removed_ns FROM lives WHERE removes GROUP BY tid, born_ns
),
teardowns AS (
    SELECT tid, born_ns, sum(ns)::BIGINT AS teardown_exposure_ns
    FROM pieces JOIN removals USING (tid, born_ns)
    WHERE time_ns >= removed_ns AND exposed
    GROUP BY tid, born_ns
)
SELECT
    measured.*,
    coalesce(deferred, 0) AS deferred,
    coalesce(teardown_exposure_ns, 0) AS teardown_exposure_ns
FROM measured LEFT JOIN held_back USING (tid, born_ns) LEFT JOIN teardowns USING (tid, born_ns);

CREATE TEMP VIEW by_signal AS
WITH
sets AS (
    SELECT
        open, if(hit, signal, 0) AS hit_by,
        coalesce(sum(ns) FILTER (stop_ns IS NOT NULL), 0)::BIGINT AS exposure_ns,
        count_if(hit)::BIGINT AS hits,
        count_if(critical) AS critical
    FROM pieces WHERE setting_up GROUP BY open, hit_by
),
words AS (SELECT open_signals, handled_signals, count(*) AS threads FROM threads GROUP BY open_signals, handled_signals)
SELECT
    signal,
    (SELECT coalesce(sum(threads), 0)::BIGINT FROM words WHERE open_signals & bit_of(signal) <> 0) AS threads,
    (SELECT coalesce(sum(exposure_ns), 0)::BIGINT FROM sets WHERE open & bit_of(signal) <> 0) AS exposure_ns,
    (SELECT coalesce(sum(hits), 0)::BIGINT FROM sets WHERE hit_by = signal) AS hits,
    (SELECT coalesce(sum(critical), 0)::BIGINT FROM sets WHERE hit_by = signal) AS critical
FROM range(1, 65) AS numbers(signal)
WHERE (SELECT bit_or(handled_signals) FROM words) & bit_of(signal) <> 0 OR hits > 0;

CREATE TEMP VIEW by_process AS
SELECT
    pid,
    any_value(policy) AS policy,
    count_if(verdict = 'masked') AS masked,
    count_if(verdict = 'exposed') AS exposed,
    count_if(verdict = 'hit') AS hit,
    count_if(verdict = 'critical') AS critical,
    count_if(verdict = 'unhandled') AS unhandled,
    coalesce(sum(exposure_ns) FILTER (ready), 0)::BIGINT AS exposure_ns
FROM threads GROUP BY pid;


SELECT
    count(*) AS born,
    count_if(verdict = 'masked') AS masked,
    count_if(verdict = 'exposed') AS exposed,
    count_if(verdict = 'hit') AS hit,
    count_if(verdict = 'critical') AS critical,
    count_if(verdict = 'unhandled') AS unhandled,
    count_if(NOT ready) AS unready,
    count_if(ready) AS setup_count,
    coalesce(sum(setup_ns) FILTER (ready), 0)::BIGINT AS setup_ns,
    quantile_disc(setup_ns, [0, 0.5, 0.9, 0.99, 1]) FILTER (ready) AS setup_quantiles_ns,
    count_if(ready AND exposure_ns > 0) AS exposure_count,
    coalesce(sum(exposure_ns) FILTER (ready), 0)::BIGINT AS exposure_ns,
    quantile_disc(exposure_ns, [0, 0.5, 0.9, 0.99, 1]) FILTER (ready AND exposure_ns > 0) AS exposure_quantiles_ns,
    (SELECT list(s ORDER BY signal) FROM by_signal AS s) AS by_signal,
    (SELECT list(p ORDER BY pid) FROM by_process AS p) AS by_process
FROM threads;
