// node-postgres at its defaults.
const assert = require('assert');
const { pipeline } = require('stream/promises');
const { Readable } = require('stream');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const QueryStream = require('pg-query-stream');
const copyStreams = require('pg-copy-streams');
const { WHO, SLEEP, RUNNING, run, fails } = require('../checks.js');

async function connect(options = {}) {
  const client = new Client(options);
  client.on('error', () => {});
  await client.connect();
  return client;
}

async function types() {
  const client = await connect();
  const values = ['1099511627776', '1.50', 1.5, true, 'Ünïcode 🐘', Buffer.from([0, 255]), { a: [1, null] },
    new Date(Date.UTC(2020, 0, 2)), [1, null, 3], null];
  const casts = ['int8', 'numeric', 'float8', 'bool', 'text', 'bytea', 'jsonb', 'timestamptz', 'int[]', 'text'];
  const text = `SELECT ${casts.map((cast, at) => `$${at + 1}::${cast}`).join(', ')}`;
  for (let round = 0; round < 3; round += 1) {
    const { rows } = await client.query({ text, values, rowMode: 'array' });
    assert.deepStrictEqual(rows[0], values);
  }
  await client.end();
}

async function transactions() {
  const client = await connect();
  const insert = 'INSERT INTO item (who, n) VALUES ($1, $2)';
  await client.query('BEGIN');
  await client.query(insert, [WHO, 1]);
  await client.query('SAVEPOINT nested');
  await client.query(insert, [WHO, 2]);
  await fails(client.query('SELECT 1 / $1::int', [0]), '22012');
  await client.query('ROLLBACK TO nested');
  await client.query('COMMIT');
  await client.query('BEGIN');
  await client.query(insert, [WHO, 3]);
  await client.query('ROLLBACK');
  await client.query('BEGIN READ ONLY');
  await fails(client.query(insert, [WHO, 4]), '25006');
  const cursor = client.query(new Cursor('SELECT n FROM generate_series(1, 10) n'));
  await fails(cursor.read(3), '25P02');
  await client.query('ROLLBACK');
  const outside = client.query(new Cursor('SELECT n FROM generate_series(1, 10) n'));
  assert.strictEqual((await outside.read(3)).length + (await outside.read(20)).length, 10);
  await outside.close();
  const { rows } = await client.query('SELECT n FROM item WHERE who = $1', [WHO]);
  assert.deepStrictEqual(rows, [{ n: 1 }]);
  await client.end();
}

async function prepared() {
  const pool = new Pool({ max: 2 });
  await Promise.all(Array.from({ length: 100 }, async (_, n) => {
    const { rows } = await pool.query({ name: `s${n % 7}`, text: `SELECT ${n % 7} + $1::int AS sum`, values: [n] });
    assert.strictEqual(rows[0].sum, n + (n % 7));
  }));
  await pool.end();
  const client = await connect();
  await client.query({ name: 'kept', text: 'SELECT 1' });
  // It knows by itself that a name has one text.
  await assert.rejects(client.query({ name: 'kept', text: 'SELECT 2' }));
  await fails(client.query({ name: 'fails', text: 'SELECT nothing' }), '42703');
  await fails(client.query({ name: 'fails', text: 'SELECT nothing' }), '42703');
  await client.end();
}

async function batches() {
  const client = await connect();
  // It sends one after the other; a Query may hold several statements.
  const results = await Promise.all(Array.from({ length: 200 }, (_, n) => client.query('SELECT $1::int AS n', [n])));
  assert.deepStrictEqual(results.map((result) => result.rows[0].n), results.map((_, n) => n));
  const several = await client.query(`BEGIN; INSERT INTO item (who, n) VALUES ('${WHO}b', 1); COMMIT; SELECT 2 AS n`);
  assert.deepStrictEqual(several.map((result) => result.command), ['BEGIN', 'INSERT', 'COMMIT', 'SELECT']);
  let count = 0;
  for await (const row of client.query(new QueryStream('SELECT n FROM generate_series(1, $1) n', [3000]))) {
    count += row.n;
  }
  assert.strictEqual(count, 3000 * 3001 / 2);
  await client.end();
}

async function copy() {
  const client = await connect();
  const rows = Array.from({ length: 2000 }, (_, n) => `${WHO}c\t${n}\n`);
  await pipeline(Readable.from(rows), client.query(copyStreams.from('COPY item (who, n) FROM STDIN')));
  const out = client.query(copyStreams.to(
    `COPY (SELECT who, n FROM item WHERE who = '${WHO}c' ORDER BY n) TO STDOUT`));
  let text = '';
  for await (const chunk of out) text += chunk;
  assert.strictEqual(text, rows.join(''));
  await fails(pipeline(Readable.from(['x\ty\n']), client.query(copyStreams.from('COPY item (who, n) FROM STDIN'))), '22P02');
  await client.end();
}

async function notifications() {
  const [listener, other] = [await connect(), await connect()];
  const heard = [];
  const both = new Promise((resolve) => {
    listener.on('notification', ({ payload }) => heard.push(payload) === 2 && resolve());
  });
  await listener.query(`LISTEN "${WHO}"`);
  await other.query('SELECT pg_notify($1, $2)', [WHO, 'one']);
  await other.query('SELECT pg_notify($1, $2)', [WHO, 'two']);
  await both;
  assert.deepStrictEqual(heard, ['one', 'two']);
  await Promise.all([listener.end(), other.end()]);
}

async function cancel() {
  const [client, other] = [await connect(), await connect()];
  const slept = fails(client.query(SLEEP), '57014');
  while ((await other.query(RUNNING)).rows[0].n === 0);
  // Its own way is another connection that sends a CancelRequest.
  const canceller = new Client();
  const { host, port } = client;
  canceller.connection.on('connect', () => canceller.connection.cancel(client.processID, client.secretKey));
  canceller.connection.connect(port, host);
  await slept;
  assert.strictEqual((await client.query('SELECT 1 AS n')).rows[0].n, 1);
  await Promise.all([client.end(), other.end()]);
}

async function timeouts() {
  const client = await connect({ statement_timeout: 100, lock_timeout: 5000, idle_in_transaction_session_timeout: 60000 });
  await fails(client.query('SELECT pg_sleep(60)'), '57014');
  assert.strictEqual((await client.query('SHOW statement_timeout')).rows[0].statement_timeout, '100ms');
  await client.end();
  // What it gives up waiting for is answered all the same, before the next.
  const impatient = await connect({ query_timeout: 50 });
  await assert.rejects(impatient.query('SELECT pg_sleep(0.2)'), /timeout/);
  impatient.connection.stream.destroy();
}

async function settings() {
  const client = await connect({ application_name: WHO, options: '-c DateStyle=German' });
  await client.query("SET TimeZone = 'Asia/Tokyo'");
  for (let round = 0; round < 3; round += 1) {
    const { rows } = await client.query({
      text: "SELECT current_setting('application_name'), '2020-01-02'::date::text, current_setting('TimeZone')",
      rowMode: 'array',
    });
    // It asks for ISO dates itself, and options come second.
    assert.deepStrictEqual(rows[0], [WHO, '02.01.2020', 'Asia/Tokyo']);
  }
  await client.end();
}

async function reconnect() {
  const pool = new Pool({ max: 1 });
  pool.on('error', () => {});
  await assert.rejects(pool.query('SELECT pg_terminate_backend(pg_backend_pid())'));
  assert.strictEqual((await pool.query('SELECT 1 AS n')).rows[0].n, 1);
  await pool.end();
}

run([types, transactions, prepared, batches, copy, notifications, cancel, timeouts, settings, reconnect]);
