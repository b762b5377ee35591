<?php
// PDO at its defaults: statements are prepared by name on the server, and deallocated by SQL.

// Of this process alone: rows and channels are told apart by it.
define('WHO', getenv('WHO'));
const SLEEP = 'SELECT pg_sleep(60) /* ' . WHO . ' */';
const RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '" . SLEEP
    . "%' AND pid <> pg_backend_pid()";

function connect(string $more = ''): PDO
{
    $place = sprintf('host=%s;port=%s;dbname=%s', getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE'));
    return new PDO("pgsql:$place;$more", getenv('PGUSER'), getenv('PGPASSWORD'));
}

function equal($found, $expected): void
{
    if ($found !== $expected) {
        throw new Exception(var_export($found, true) . ' is not ' . var_export($expected, true));
    }
}

function fails(string $state, callable $call): void
{
    try {
        $call();
    } catch (PDOException $error) {
        equal((string) $error->getCode(), $state);
        return;
    }
    throw new Exception("no $state");
}

function one(PDO $pdo, string $sql, array $values = [])
{
    $statement = $pdo->prepare($sql);
    $statement->execute($values);
    return $statement->fetchColumn();
}

function types(): void
{
    $pdo = connect();
    $statement = $pdo->prepare('SELECT ?::int8, ?::numeric, ?::float8, ?::bool, ?::text, ?::bytea, ?::text');
    for ($round = 0; $round < 3; $round++) {
        $values = [1 << 40, '1.50', 1.5, true, 'Ünïcode 🐘', "\x00\xff", null];
        $kinds = [PDO::PARAM_INT, PDO::PARAM_STR, PDO::PARAM_STR, PDO::PARAM_BOOL, PDO::PARAM_STR, PDO::PARAM_LOB, PDO::PARAM_NULL];
        foreach ($values as $at => $value) {
            $statement->bindValue($at + 1, $value, $kinds[$at]);
        }
        $statement->execute();
        $row = $statement->fetch(PDO::FETCH_NUM);
        $row[5] = stream_get_contents($row[5]);
        equal(array_map('strval', $row), array_map('strval', $values));
    }
}

function transactions(): void
{
    $pdo = connect();
    $insert = 'INSERT INTO item (who, n) VALUES (?, ?)';
    $pdo->beginTransaction();
    $pdo->prepare($insert)->execute([WHO, 1]);
    $pdo->exec('SAVEPOINT nested');
    fails('22012', fn () => one($pdo, 'SELECT 1 / ?::int', [0]));
    $pdo->exec('ROLLBACK TO nested');
    $pdo->commit();
    $pdo->beginTransaction();
    $pdo->prepare($insert)->execute([WHO, 2]);
    $pdo->rollBack();
    $pdo->beginTransaction();
    $pdo->exec('SET TRANSACTION READ ONLY');
    fails('25006', fn () => $pdo->prepare($insert)->execute([WHO, 3]));
    $pdo->rollBack();
    equal(one($pdo, 'SELECT sum(n)::text FROM item WHERE who = ?', [WHO]), '1');
    $cursor = $pdo->prepare('SELECT n FROM generate_series(1, 100) n', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
    $pdo->beginTransaction();
    $cursor->execute();
    equal($cursor->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_LAST)[0], 100);
    $pdo->commit();
}

function prepared(): void
{
    $pdo = connect();
    $kept = $pdo->prepare('SELECT :n::int * 2');
    for ($n = 0; $n < 40; $n++) {
        $kept->execute(['n' => $n]);
        equal($kept->fetchColumn(), 2 * $n);
        // Each of them is deallocated when it goes.
        equal(one($pdo, "SELECT $n + ?::int", [$n]), 2 * $n);
    }
    fails('42703', fn () => one($pdo, 'SELECT nothing'));
}

// It has no pipelines; several statements go in one Query.
function batches(): void
{
    $pdo = connect();
    $insert = "INSERT INTO item (who, n) VALUES ('" . WHO . "b', 1);";
    $pdo->exec("BEGIN; $insert $insert COMMIT");
    equal(one($pdo, 'SELECT count(*) FROM item WHERE who = ?', [WHO . 'b']), 2);
}

function copying(): void
{
    $pdo = connect();
    $rows = array_map(fn ($n) => WHO . "c\t$n\n", range(0, 1999));
    $pdo->pgsqlCopyFromArray('item', $rows, "\t", '\\\\N', 'who, n');
    equal(count($pdo->pgsqlCopyToArray("(SELECT n FROM item WHERE who = '" . WHO . "c')")), 2000);
    fails('22P02', fn () => $pdo->pgsqlCopyFromArray('item', ["x\ty\n"], "\t", '\\\\N', 'who, n'));
    equal(one($pdo, 'SELECT 1'), 1);
}

function notifications(): void
{
    $listener = connect();
    $other = connect();
    $listener->exec('LISTEN "' . WHO . '"');
    foreach (['one', 'two'] as $payload) {
        one($other, 'SELECT pg_notify(?, ?)', [WHO, $payload]);
        equal($listener->pgsqlGetNotify(PDO::FETCH_ASSOC, 30000)['payload'], $payload);
    }
}

// PDO has nothing to cancel with; the extension pgsql beside it has.
function cancel(): void
{
    $place = sprintf('host=%s port=%s dbname=%s', getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE'));
    $connection = pg_connect($place . ' user=' . getenv('PGUSER') . ' password=' . getenv('PGPASSWORD'));
    pg_send_query($connection, SLEEP);
    $other = connect();
    while (one($other, RUNNING) === 0);
    equal(pg_cancel_query($connection), true);
    equal(pg_fetch_result(pg_query($connection, 'SELECT 1'), 0), '1');
}

function timeouts(): void
{
    $pdo = connect("options='-c statement_timeout=100'");
    fails('57014', fn () => $pdo->query('SELECT pg_sleep(60)'));
    equal(one($pdo, 'SHOW statement_timeout'), '100ms');
}

function settings(): void
{
    $pdo = connect('application_name=' . WHO);
    $pdo->exec("SET TimeZone = 'Asia/Tokyo'");
    for ($round = 0; $round < 3; $round++) {
        $sql = "SELECT current_setting('application_name') || current_setting('TimeZone')";
        equal(one($pdo, $sql), WHO . 'Asia/Tokyo');
    }
}

function reconnect(): void
{
    $pdo = connect();
    try {
        $pdo->query('SELECT pg_terminate_backend(pg_backend_pid())');
        throw new Exception('no error');
    } catch (PDOException) {
    }
    equal(one(connect(), 'SELECT 1'), 1);
}

$checks = ['types', 'transactions', 'prepared', 'batches', 'copy' => 'copying', 'notifications', 'cancel', 'timeouts', 'settings', 'reconnect'];
foreach ($checks as $name => $check) {
    $check();
    echo 'ok ', is_string($name) ? $name : $check, "\n";
}
