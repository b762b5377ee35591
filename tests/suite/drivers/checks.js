// What the suites for Node share: who they are, and how they say what they checked.
const assert = require('assert');

// Of this process alone: rows and channels are told apart by it.
const WHO = process.env.WHO;

async function run(checks) {
  try {
    for (const check of checks) {
      await check();
      console.log('ok', check.name);
    }
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}

// The SQLSTATE that a promise fails with.
async function fails(promise, code) {
  await assert.rejects(promise, (error) => {
    assert.strictEqual(error.code, code, String(error));
    return true;
  });
}

module.exports = {
  WHO,
  run,
  fails,
  // What a statement that is to be cancelled looks like, and whether it runs.
  SLEEP: `SELECT pg_sleep(60) /* ${WHO} */`,
  RUNNING: `SELECT count(*)::int AS n FROM pg_stat_activity WHERE state = 'active'
    AND query LIKE 'SELECT pg_sleep(60) /* ${WHO}%' AND pid <> pg_backend_pid()`,
};
