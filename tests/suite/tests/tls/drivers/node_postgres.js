// Arguments: a file with an attempt in each line, database, user, password. Prints how each attempt ended.
const fs = require('fs');
const { Client } = require('pg');

const [list, database, user, password] = process.argv.slice(2);
const read = (path) => (path === '-' ? undefined : fs.readFileSync(path, 'utf8'));

function tls(mode, ca, crl, cert, key) {
  const shown = { cert: read(cert), key: read(key) };
  switch (mode) {
    case 'disable': return false;
    case 'require': return { ...shown, rejectUnauthorized: false };
    case 'verify-ca': return { ...shown, ca: read(ca), crl: read(crl), checkServerIdentity: () => undefined };
    case 'verify-full': return { ...shown, ca: read(ca), crl: read(crl) };
    default: throw new Error(`no such mode: ${mode}`);
  }
}

async function attempt(line) {
  const [port, mode, ca, crl, cert, key, negotiation, binding] = line.split(' ');
  const client = new Client({
    host: 'localhost',
    port: Number(port),
    database,
    user,
    password,
    ssl: tls(mode, ca, crl, cert, key),
    sslnegotiation: negotiation,
    enableChannelBinding: binding !== 'disable',
    connectionTimeoutMillis: 30000,
  });
  // What comes after an error that was reported already.
  client.on('error', () => {});
  try {
    await client.connect();
    const encrypted = client.connection.stream.encrypted === true;
    const result = await client.query('SELECT $1::int + 1 AS answer', [41]);
    await client.end();
    if (result.rows[0].answer !== 42) return 'refused a wrong answer';
    return encrypted ? 'tls' : 'clear';
  } catch (error) {
    return `refused ${String(error).replace(/\s+/g, ' ')}`;
  }
}

(async () => {
  for (const line of fs.readFileSync(list, 'utf8').trim().split('\n')) {
    console.log(await attempt(line));
  }
  process.exit(0);
})();
