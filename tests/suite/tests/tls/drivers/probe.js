// Arguments: CA file, database, then port and sslmode in turn. Prints how each attempt ended.
const fs = require('fs');
const { Client } = require('pg');

const [authority, database, ...rest] = process.argv.slice(2);
const ca = fs.readFileSync(authority, 'utf8');
const modes = {
  'disable': false,
  'require': { rejectUnauthorized: false },
  'verify-ca': { ca, checkServerIdentity: () => undefined },
  'verify-full': { ca },
};

async function attempt(port, mode) {
  const client = new Client({
    host: 'localhost', port, database, user: 'app', password: 'app-password', ssl: modes[mode],
  });
  // What comes after an error that was reported already.
  client.on('error', () => {});
  try {
    await client.connect();
    const result = await client.query("SELECT $1::text || ' in' AS answer", ['let']);
    await client.end();
    return result.rows[0].answer;
  } catch (error) {
    console.error(`${port} ${mode}: ${error}`);
    return 'refused';
  }
}

(async () => {
  for (let at = 0; at + 1 < rest.length; at += 2) {
    console.log(await attempt(Number(rest[at]), rest[at + 1]));
  }
  process.exit(0);
})();
