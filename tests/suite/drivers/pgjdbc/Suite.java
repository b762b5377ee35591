// pgjdbc at its defaults: statements are prepared by name from the fifth time on, and messages go in batches.

import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.*;
import java.util.*;
import org.postgresql.*;
import org.postgresql.copy.CopyManager;

public class Suite {
    // Of this process alone: rows and channels are told apart by it.
    static final String WHO = System.getenv("WHO");
    static final String SLEEP = "SELECT pg_sleep(60) /* " + WHO + " */";
    static final String RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        + " AND query LIKE 'SELECT pg_sleep(60) /* " + WHO + "%' AND pid <> pg_backend_pid()";

    interface Check { void run() throws Exception; }

    static Connection connect(String... options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        for (int at = 0; at < options.length; at += 2) properties.setProperty(options[at], options[at + 1]);
        String place = System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        return DriverManager.getConnection("jdbc:postgresql://" + place, properties);
    }

    static void equal(Object found, Object expected) {
        if (!Objects.equals(found, expected)) throw new AssertionError(found + " is not " + expected);
    }

    static void fails(String state, Check check) throws Exception {
        try {
            check.run();
        } catch (SQLException error) {
            equal(error.getSQLState(), state);
            return;
        }
        throw new AssertionError("no " + state);
    }

    static String one(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int at = 0; at < values.length; at++) statement.setObject(at + 1, values[at]);
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getString(1);
            }
        }
    }

    static void run(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    static void types() throws Exception {
        String sql = "SELECT ?::int8, ?::numeric, ?::float8, ?::bool, ?::text, ?::bytea, ?::date, ?::timestamptz, ?::uuid,"
            + " ?::int[], ?::text";
        try (Connection connection = connect(); PreparedStatement statement = connection.prepareStatement(sql)) {
            UUID uuid = new UUID(0, 7);
            OffsetDateTime time = OffsetDateTime.of(2020, 1, 2, 3, 4, 5, 678901000, ZoneOffset.UTC);
            // In text first, then prepared and in binary.
            for (int round = 0; round < 12; round++) {
                statement.setLong(1, 1L << 40);
                statement.setBigDecimal(2, new BigDecimal("1.50"));
                statement.setDouble(3, 1.5);
                statement.setBoolean(4, true);
                statement.setString(5, "Ünïcode 🐘");
                statement.setBytes(6, new byte[] {0, -1});
                statement.setObject(7, LocalDate.of(2020, 1, 2));
                statement.setObject(8, time);
                statement.setObject(9, uuid);
                statement.setArray(10, connection.createArrayOf("int4", new Integer[] {1, null, 3}));
                statement.setNull(11, Types.VARCHAR);
                try (ResultSet row = statement.executeQuery()) {
                    row.next();
                    equal(row.getLong(1), 1L << 40);
                    equal(row.getBigDecimal(2), new BigDecimal("1.50"));
                    equal(row.getDouble(3), 1.5);
                    equal(row.getBoolean(4), true);
                    equal(row.getString(5), "Ünïcode 🐘");
                    equal(Arrays.toString(row.getBytes(6)), "[0, -1]");
                    equal(row.getObject(7, LocalDate.class), LocalDate.of(2020, 1, 2));
                    equal(row.getObject(8, OffsetDateTime.class), time);
                    equal(row.getObject(9), uuid);
                    equal(Arrays.toString((Object[]) row.getArray(10).getArray()), "[1, null, 3]");
                    equal(row.getString(11), null);
                }
            }
        }
    }

    static void transactions() throws Exception {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            String insert = "INSERT INTO item (who, n) VALUES ('" + WHO + "', %d)";
            run(connection, String.format(insert, 1));
            Savepoint savepoint = connection.setSavepoint("nested");
            run(connection, String.format(insert, 2));
            fails("22012", () -> run(connection, "SELECT 1 / 0"));
            connection.rollback(savepoint);
            connection.commit();
            run(connection, String.format(insert, 3));
            connection.rollback();
            connection.setReadOnly(true);
            fails("25006", () -> run(connection, String.format(insert, 4)));
            connection.rollback();
            connection.setReadOnly(false);
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            equal(one(connection, "SHOW transaction_isolation"), "serializable");
            connection.commit();
            // Rows in portions, out of a portal.
            try (PreparedStatement statement = connection.prepareStatement("SELECT n FROM generate_series(1, 1000) n")) {
                statement.setFetchSize(64);
                int count = 0;
                try (ResultSet rows = statement.executeQuery()) {
                    while (rows.next()) equal(rows.getInt(1), ++count);
                }
                equal(count, 1000);
            }
            connection.commit();
            equal(one(connection, "SELECT string_agg(n::text, ' ') FROM item WHERE who = ?", WHO), "1");
            connection.commit();
        }
    }

    static void prepared() throws Exception {
        try (Connection connection = connect(); Connection other = connect()) {
            for (int round = 0; round < 60; round++) {
                equal(one(connection, "SELECT ?::int * 2", round), "" + 2 * round);
                equal(one(other, "SELECT ?::int * 3", round), "" + 3 * round);
                equal(one(connection, "SELECT " + round % 7 + " + ?::int", round), "" + (round + round % 7));
            }
            // A plain statement in between takes nothing away.
            run(connection, "SELECT 1; SELECT 2");
            equal(one(connection, "SELECT ?::int * 2", 21), "42");
            run(connection, "DEALLOCATE ALL");
            // It has noticed, and prepares again.
            equal(one(connection, "SELECT ?::int * 2", 21), "42");
        }
        columns();
    }

    static void columns() throws Exception {
        try (Connection connection = connect(); Connection other = connect(); Connection holder = connect()) {
            String table = "\"" + WHO + "_grows\"";
            run(connection, "CREATE TABLE " + table + " (a int); INSERT INTO " + table + " VALUES (7)");
            holder.setAutoCommit(false);
            String sql = "SELECT * FROM " + table + " WHERE a::text <> ?";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                statement.setString(1, "");
                for (int change = 0; change < 4; change++) {
                    for (int round = 0; round < 20; round++) {
                        // Another server connection is at hand, now and then.
                        if (round % 8 == 0) one(holder, "SELECT 1");
                        if (round % 8 == 4) holder.commit();
                        try (ResultSet row = statement.executeQuery()) {
                            equal(row.next(), true);
                            equal(row.getObject(1), change % 2 == 0 ? (Object) 7 : "7");
                            equal(row.getMetaData().getColumnCount(), change + 1);
                            for (int column = 1; column <= change; column++) equal(row.getLong(1 + column), 1L << column);
                        }
                    }
                    holder.commit();
                    run(other, "ALTER TABLE " + table + " ADD COLUMN b" + change + " int8 DEFAULT " + (2L << change)
                        + ", ALTER COLUMN a TYPE " + (change % 2 == 0 ? "text" : "int USING a::int"));
                }
            }
        }
    }

    static void batches() throws Exception {
        try (Connection connection = connect()) {
            String sql = "INSERT INTO item (who, n) VALUES (?, ?)";
            try (PreparedStatement statement = connection.prepareStatement(sql, Statement.RETURN_GENERATED_KEYS)) {
                for (int n = 0; n < 500; n++) {
                    statement.setString(1, WHO + "b");
                    statement.setInt(2, n);
                    statement.addBatch();
                }
                equal(Arrays.stream(statement.executeBatch()).sum(), 500);
            }
            try (Statement statement = connection.createStatement()) {
                for (String value : List.of("1", "1 / 0", "3")) {
                    statement.addBatch("INSERT INTO item (who, n) VALUES ('" + WHO + "b', " + value + ")");
                }
                fails("22012", statement::executeBatch);
            }
            equal(one(connection, "SELECT count(*) FROM item WHERE who = ?", WHO + "b"), "500");
        }
    }

    static void copy() throws Exception {
        try (Connection connection = connect()) {
            CopyManager manager = connection.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder rows = new StringBuilder();
            for (int n = 0; n < 2000; n++) rows.append(WHO).append("c\t").append(n).append('\n');
            String in = "COPY item (who, n) FROM STDIN";
            equal(manager.copyIn(in, new StringReader(rows.toString())), 2000L);
            fails("22P02", () -> {
                try {
                    manager.copyIn(in, new StringReader("x\ty\n"));
                } catch (java.io.IOException error) {
                    throw new AssertionError(error);
                }
            });
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            manager.copyOut("COPY (SELECT who, n FROM item WHERE who = '" + WHO + "c' ORDER BY n) TO STDOUT", out);
            equal(out.toString(StandardCharsets.UTF_8), rows.toString());
        }
    }

    static void notifications() throws Exception {
        try (Connection listener = connect(); Connection other = connect()) {
            run(listener, "LISTEN \"" + WHO + "\"");
            for (String payload : List.of("one", "two")) one(other, "SELECT pg_notify(?, ?)", WHO, payload);
            List<String> heard = new ArrayList<>();
            while (heard.size() < 2) {
                PGNotification[] came = listener.unwrap(PGConnection.class).getNotifications(30_000);
                if (came == null || came.length == 0) throw new AssertionError("nothing came");
                for (PGNotification notification : came) heard.add(notification.getParameter());
            }
            equal(heard, List.of("one", "two"));
        }
    }

    static void cancel() throws Exception {
        try (Connection connection = connect(); Connection other = connect();
             Statement statement = connection.createStatement()) {
            Thread thread = new Thread(() -> {
                try {
                    while (one(other, RUNNING).equals("0")) Thread.onSpinWait();
                    statement.cancel();
                } catch (SQLException error) {
                    throw new AssertionError(error);
                }
            });
            thread.start();
            fails("57014", () -> statement.execute(SLEEP));
            thread.join();
            equal(one(connection, "SELECT 1"), "1");
        }
    }

    static void timeouts() throws Exception {
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            // A timer of its own that sends a CancelRequest.
            statement.setQueryTimeout(1);
            fails("57014", () -> statement.execute("SELECT pg_sleep(60)"));
        }
        try (Connection connection = connect("options", "-c statement_timeout=100")) {
            fails("57014", () -> run(connection, "SELECT pg_sleep(60)"));
            equal(one(connection, "SHOW statement_timeout"), "100ms");
            equal(connection.isValid(5), true);
        }
    }

    static void settings() throws Exception {
        try (Connection connection = connect("ApplicationName", WHO)) {
            run(connection, "SET TimeZone = 'Asia/Tokyo'");
            for (int round = 0; round < 3; round++) {
                equal(one(connection, "SELECT current_setting('application_name') || current_setting('TimeZone')"),
                    WHO + "Asia/Tokyo");
            }
            connection.setClientInfo("ApplicationName", WHO + "2");
            equal(one(connection, "SHOW application_name"), WHO + "2");
        }
    }

    static void reconnect() throws Exception {
        try (Connection connection = connect()) {
            fails("57P01", () -> one(connection, "SELECT pg_terminate_backend(pg_backend_pid())"));
            equal(connection.isValid(5), false);
        }
        try (Connection connection = connect()) {
            equal(one(connection, "SELECT 1"), "1");
        }
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("types", Suite::types);
        checks.put("transactions", Suite::transactions);
        checks.put("prepared", Suite::prepared);
        checks.put("batches", Suite::batches);
        checks.put("copy", Suite::copy);
        checks.put("notifications", Suite::notifications);
        checks.put("cancel", Suite::cancel);
        checks.put("timeouts", Suite::timeouts);
        checks.put("settings", Suite::settings);
        checks.put("reconnect", Suite::reconnect);
        for (Map.Entry<String, Check> check : checks.entrySet()) {
            check.getValue().run();
            System.out.println("ok " + check.getKey());
        }
        System.exit(0);
    }
}
