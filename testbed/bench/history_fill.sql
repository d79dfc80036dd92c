-- A history as years of use leave it: {runs} runs over 400 days, in the order of their time, with {ticks} ticks and one incident each. Carriers, DaemonSets
-- and outcomes are skewed: a few carriers have most of the trouble, and nine runs in ten end resolved.

-- runs
INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, table_version, state, outcome, finding, cause, confirmed, changed, why,
    started_at, finished_at, deadline, wake_at, ticks, changes, plan_hash, memory)
SELECT substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-7' || substr(m, 1, 3) || '-8' || substr(m, 4, 3) || '-' || substr(m, 7, 12),
    CASE WHEN open THEN 'prod-dal10-carrier' || n % 200 ELSE 'prod-dal10-carrier' || floor(200 * power(random(), 2)) END,
    (ARRAY['monitoring', 'ibm-system', 'kube-system'])[1 + n % 3],
    CASE WHEN open THEN 'agent-' || n % 150 ELSE 'agent-' || floor(150 * power(random(), 2)) END,
    CASE WHEN n % 20 = 0 THEN 'retrigger' WHEN n % 31 = 0 THEN 'reconcile' ELSE 'webhook' END,
    CASE WHEN n % 10 = 3 THEN 'observe' ELSE 'act' END, 1,
    CASE WHEN open THEN 'draining' ELSE ending END, CASE WHEN open THEN '' ELSE ending END, finding, finding, true, n % 3 = 0,
    'every expected node has had a ready pod for 2m0s, so the incident is resolved',
    at, CASE WHEN open THEN NULL ELSE at + interval '5 min' END, at + interval '45 min', at, {ticks}, 3 * {ticks}, m,
    ('{"found":[{"finding":"' || finding || '","at":"' || at || '"}],"sightings":{},"waited":0,"note":"' || m || m || m || '"}')::json
FROM (SELECT n, at, lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS h, md5(n::text) AS m, n > {runs} - 100 AS open,
        CASE WHEN n % 20 = 7 THEN 'escalated' WHEN n % 33 = 5 THEN 'stood_down' ELSE 'resolved' END AS ending,
        (ARRAY['node_full', 'node_full', 'node_full', 'uncovered', 'uncovered', 'healthy', 'healthy', 'absent', 'node_down', 'no_room'])
            [1 + floor(10 * random())::int] AS finding
    FROM (SELECT n, now() - ({runs} - n) * (interval '400 days' / {runs}) AS at FROM generate_series(1, {runs}) n) AS numbered) AS made;

-- run_incidents
INSERT INTO run_incidents (run, incident, number, title, url, joined_at, outcome, ended_at)
SELECT id, 'Q' || upper(substr(plan_hash, 1, 13)), 1, carrier || '.not_running_all_' || daemonset || '_daemonsets.us-south',
    'https://example.pagerduty.com/incidents/Q' || upper(substr(plan_hash, 1, 13)), started_at, outcome, finished_at FROM runs;

-- ticks
INSERT INTO observations (hash, body) VALUES ('\x00', '{}');
INSERT INTO ticks (run, seq, at, from_state, to_state, finding, confirmed, why, policy, policy_hash, before, observation, observed_at, diagnosis, plan, change)
SELECT id, seq, started_at + seq * interval '1 min', 'triage', 'triage', finding, true, why, '{}', '', memory, '\x00', started_at, '{}', '[]', seq
FROM runs CROSS JOIN generate_series(1, {ticks}) AS seq;
