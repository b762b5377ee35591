# DBD::Pg at its defaults: statements are prepared by name on the server when they are run for the second time.
use strict;
use warnings;
use utf8;
use DBI;
use DBD::Pg qw(:pg_types :async);
$| = 1;

# Of this process alone: rows and channels are told apart by it.
my $who = $ENV{WHO};
my $sleep = "SELECT pg_sleep(60) /* $who */";
my $running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '$sleep%' "
    . "AND pid <> pg_backend_pid()";

sub connection {
    my ($more) = @_;
    return DBI->connect('dbi:Pg:' . ($more // ''), undef, undef, {RaiseError => 1, PrintError => 0, AutoCommit => 1});
}

sub equal {
    my ($found, $expected) = map { $_ // 'undef' } @_;
    die "$found is not $expected" unless $found eq $expected;
}

sub fails {
    my ($dbh, $state, $call) = @_;
    die "no $state" if eval { $call->(); 1 };
    equal($dbh->state, $state);
}

sub types {
    my $dbh = connection();
    my $sth = $dbh->prepare('SELECT ?::int8, ?::numeric, ?::bool, ?::text, ?::bytea, ?::int[], ?::text');
    $sth->bind_param(5, "\x00\xff", {pg_type => PG_BYTEA});
    for (1 .. 4) {
        $sth->bind_param($_->[0], $_->[1])
            for [1, 2**40], [2, '1.50'], [3, 't'], [4, 'Ünïcode 🐘'], [6, [1, undef, 3]], [7, undef];
        $sth->execute;
        my @row = $sth->fetchrow_array;
        equal(join('|', @row[0 .. 4]), join('|', 2**40, '1.50', 1, 'Ünïcode 🐘', "\x00\xff"));
        equal(join('|', map { $_ // 'undef' } @{$row[5]}, $row[6]), '1|undef|3|undef');
    }
}

sub transactions {
    my $dbh = connection();
    my $insert = 'INSERT INTO item (who, n) VALUES (?, ?)';
    $dbh->begin_work;
    $dbh->do($insert, undef, $who, 1);
    $dbh->pg_savepoint('nested');
    fails($dbh, '22012', sub { $dbh->do('SELECT 1 / ?::int', undef, 0) });
    $dbh->pg_rollback_to('nested');
    $dbh->commit;
    $dbh->begin_work;
    $dbh->do($insert, undef, $who, 2);
    $dbh->rollback;
    $dbh->do('BEGIN READ ONLY');
    fails($dbh, '25006', sub { $dbh->do($insert, undef, $who, 3) });
    $dbh->do('ROLLBACK');
    equal(join(' ', @{$dbh->selectcol_arrayref('SELECT n FROM item WHERE who = ?', undef, $who)}), '1');
}

sub prepared {
    my $dbh = connection();
    my $kept = $dbh->prepare('SELECT ?::int * 2');
    for my $n (0 .. 39) {
        $kept->execute($n);
        equal($kept->fetchrow_array, 2 * $n);
        my $other = $dbh->prepare("SELECT $n + ?::int");
        for (1 .. 3) {
            $other->execute($n);
            equal($other->fetchrow_array, 2 * $n);
        }
        # It sends DEALLOCATE by its name.
    }
    my $now = $dbh->prepare('SELECT ?::int', {pg_prepare_now => 1});
    $now->execute(7);
    equal($now->fetchrow_array, 7);
}

# It has no pipelines; several statements go in one Query.
sub batches {
    my $dbh = connection();
    $dbh->do("BEGIN; INSERT INTO item (who, n) VALUES ('${who}b', 1); INSERT INTO item (who, n) VALUES ('${who}b', 2); COMMIT");
    my $sth = $dbh->prepare('INSERT INTO item (who, n) VALUES (?, ?)');
    $sth->execute_array({}, [("${who}b") x 98], [3 .. 100]);
    equal($dbh->selectrow_array('SELECT count(*) FROM item WHERE who = ?', undef, "${who}b"), 100);
}

sub copy {
    my $dbh = connection();
    $dbh->do('COPY item (who, n) FROM STDIN');
    $dbh->pg_putcopydata("${who}c\t$_\n") for 0 .. 1999;
    $dbh->pg_putcopyend;
    $dbh->do("COPY (SELECT n FROM item WHERE who = '${who}c' ORDER BY n) TO STDOUT");
    my ($row, $n) = ('', 0);
    while ($dbh->pg_getcopydata($row) >= 0) {
        equal($row, $n++ . "\n");
    }
    equal($n, 2000);
    $dbh->do('COPY item (who, n) FROM STDIN');
    fails($dbh, '22P02', sub { $dbh->pg_putcopydata("x\ty\n"); $dbh->pg_putcopyend });
    equal($dbh->selectrow_array('SELECT 1'), 1);
}

sub notifications {
    my ($listener, $other) = (connection(), connection());
    $listener->do("LISTEN \"$who\"");
    for my $payload ('one', 'two') {
        $other->do('SELECT pg_notify(?, ?)', undef, $who, $payload);
        my ($heard, $end) = (undef, time + 30);
        until ($heard) {
            die 'nothing came' if time > $end;
            $heard = $listener->pg_notifies;
        }
        equal($heard->[2], $payload);
    }
}

sub cancel {
    my ($dbh, $other) = (connection(), connection());
    my $sth = $dbh->prepare($sleep, {pg_async => PG_ASYNC});
    $sth->execute;
    1 until $other->selectrow_array($running);
    die 'not cancelled' unless $dbh->pg_cancel;
    equal($dbh->selectrow_array('SELECT 1'), 1);
}

sub timeouts {
    my $dbh = connection("options='-c statement_timeout=100'");
    fails($dbh, '57014', sub { $dbh->do('SELECT pg_sleep(60)') });
    equal($dbh->selectrow_array('SHOW statement_timeout'), '100ms');
}

sub settings {
    my $dbh = connection("application_name=$who");
    $dbh->do("SET TimeZone = 'Asia/Tokyo'");
    for (1 .. 3) {
        my @row = $dbh->selectrow_array("SELECT current_setting('application_name'), current_setting('TimeZone')");
        equal("@row", "$who Asia/Tokyo");
    }
}

sub reconnect {
    my $dbh = connection();
    die 'no error' if eval { $dbh->do('SELECT pg_terminate_backend(pg_backend_pid())'); 1 };
    die 'still there' if $dbh->ping > 0;
    $dbh = connection();
    equal($dbh->selectrow_array('SELECT 1'), 1);
}

for my $check (qw(types transactions prepared batches copy notifications cancel timeouts settings reconnect)) {
    no strict 'refs';
    &$check();
    print "ok $check\n";
}
