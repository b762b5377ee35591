// Postgres.js at its defaults: a pool, statements prepared by name, messages in pipelines.
const assert = require('assert');
const { pipeline } = require('stream/promises');
const { Readable } = require('stream');
const postgres = require('postgres');
const { WHO, SLEEP, RUNNING, run, fails } = require('../checks.js');

// Of the options only how many connections it may have.
const open = (options = {}) => postgres({ max: 2, onnotice: () => {}, ...options });

async function types() {
  const sql = open();
  for (let round = 0; round < 3; round += 1) {
    const [row] = await sql`SELECT ${'1099511627776'}::int8 AS big, ${1.5}::float8 AS float, ${true}::bool AS yes,
      ${'Ünïcode 🐘'}::text AS text, ${Buffer.from([0, 255])}::bytea AS bytes, ${sql.json({ a: [1, null] })}::jsonb AS json,
      ${new Date(Date.UTC(2020, 0, 2))}::timestamptz AS time, ${[1, 3]}::int[] AS list, ${null}::text AS none`;
    assert.deepStrictEqual({ ...row }, {
      big: '1099511627776', float: 1.5, yes: true, text: 'Ünïcode 🐘', bytes: Buffer.from([0, 255]),
      json: { a: [1, null] }, time: new Date(Date.UTC(2020, 0, 2)), list: [1, 3], none: null,
    });
  }
  await sql.end();
}

async function transactions() {
  const sql = open();
  await sql.begin(async (tx) => {
    await tx`INSERT INTO item (who, n) VALUES (${WHO}, 1)`;
    await fails(tx.savepoint(async (nested) => {
      await nested`INSERT INTO item (who, n) VALUES (${WHO}, 2)`;
      await nested`SELECT 1 / ${0}::int`;
    }), '22012');
  });
  await fails(sql.begin('READ ONLY', (tx) => tx`INSERT INTO item (who, n) VALUES (${WHO}, 3)`), '25006');
  // All statements of a transaction in one pipeline.
  await sql.begin((tx) => [4, 5].map((n) => tx`INSERT INTO item (who, n) VALUES (${WHO}, ${n})`));
  let seen = 0;
  for await (const rows of sql`SELECT n FROM generate_series(1, 1000) n`.cursor(100)) seen += rows.length;
  assert.strictEqual(seen, 1000);
  const rows = await sql`SELECT n FROM item WHERE who = ${WHO} ORDER BY n`;
  assert.deepStrictEqual(rows.map((row) => row.n), [1, 4, 5]);
  await sql.end();
}

async function prepared() {
  const sql = open();
  for (let round = 0; round < 100; round += 1) {
    const [kept] = await sql`SELECT ${round}::int * 2 AS n`;
    const [other] = await sql.unsafe(`SELECT ${round} + $1::int AS n`, [round], { prepare: true });
    assert.deepStrictEqual([kept.n, other.n], [2 * round, 2 * round]);
  }
  const described = await sql`SELECT ${1}::int AS a, 'x' AS b`.describe();
  assert.deepStrictEqual(described.columns.map((column) => column.name), ['a', 'b']);
  await sql.end();
}

async function batches() {
  const sql = open();
  const all = await Promise.all(Array.from({ length: 300 }, (_, n) => (
    n % 3 === 2 ? sql`SELECT 1 / ${0}::int`.catch((error) => error.code) : sql`SELECT ${n}::int AS n`
  )));
  all.forEach((result, n) => assert.strictEqual(n % 3 === 2 ? result : result[0].n, n % 3 === 2 ? '22012' : n));
  const rows = Array.from({ length: 300 }, (_, n) => ({ who: `${WHO}b`, n }));
  await sql`INSERT INTO item ${sql(rows)}`;
  const several = await sql`SELECT 1 AS n; SELECT 2 AS n`.simple();
  assert.deepStrictEqual(several.map((result) => result[0].n), [1, 2]);
  await sql.end();
}

async function copy() {
  const sql = open();
  const rows = Array.from({ length: 2000 }, (_, n) => `${WHO}c\t${n}\n`);
  await pipeline(Readable.from(rows), await sql`COPY item (who, n) FROM STDIN`.writable());
  let text = '';
  const query = sql.unsafe(`COPY (SELECT who, n FROM item WHERE who = '${WHO}c' ORDER BY n) TO STDOUT`);
  for await (const chunk of await query.readable()) text += chunk;
  assert.strictEqual(text, rows.join(''));
  await sql.end();
}

async function notifications() {
  const sql = open();
  const heard = [];
  await new Promise((resolve, reject) => {
    sql.listen(WHO, (payload) => heard.push(payload) === 2 && resolve())
      .then(() => sql.notify(WHO, 'one')).then(() => sql.notify(WHO, 'two')).catch(reject);
  });
  assert.deepStrictEqual(heard, ['one', 'two']);
  await sql.end();
}

async function cancel() {
  const sql = open();
  const query = sql.unsafe(SLEEP);
  const slept = fails(query.execute(), '57014');
  while ((await sql.unsafe(RUNNING))[0].n === 0);
  query.cancel();
  await slept;
  assert.strictEqual((await sql`SELECT 1 AS n`)[0].n, 1);
  await sql.end();
}

async function timeouts() {
  const sql = open({ connection: { statement_timeout: 100 } });
  await fails(sql`SELECT pg_sleep(60)`, '57014');
  assert.strictEqual((await sql`SHOW statement_timeout`)[0].statement_timeout, '100ms');
  await sql.end();
}

async function settings() {
  const sql = open({ max: 1, connection: { application_name: WHO, DateStyle: 'German' } });
  await sql`SET TimeZone = 'Asia/Tokyo'`;
  for (let round = 0; round < 3; round += 1) {
    const rows = await sql`SELECT current_setting('application_name'), '2020-01-02'::date::text,
      current_setting('TimeZone')`.values();
    assert.deepStrictEqual([...rows[0]], [WHO, '02.01.2020', 'Asia/Tokyo']);
  }
  assert.strictEqual(sql.parameters.TimeZone, 'Asia/Tokyo');
  await sql.end();
}

async function reconnect() {
  const sql = open({ max: 1 });
  await assert.rejects(sql`SELECT pg_terminate_backend(pg_backend_pid())`);
  // What it sends before it has seen the end of the connection fails with it, and the next result may begin with a hole: so it
  // is with PostgreSQL itself.
  const again = () => sql`SELECT 1 AS n`;
  assert.strictEqual((await again().catch(again).catch(again)).at(-1).n, 1);
  await sql.end();
}

run([types, transactions, prepared, batches, copy, notifications, cancel, timeouts, settings, reconnect]);
