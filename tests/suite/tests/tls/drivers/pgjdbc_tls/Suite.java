import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.util.Properties;
import javax.net.ssl.SSLSocket;
import org.postgresql.core.PGStream;
import org.postgresql.core.QueryExecutorBase;
import org.postgresql.jdbc.PgConnection;

/** Arguments: a file with an attempt in each line, database, user, password. Prints how each attempt ended. */
public class Suite {
    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            System.out.println(attempt(line.split(" "), arguments));
        }
    }

    private static String attempt(String[] fields, String[] arguments) {
        Properties properties = new Properties();
        properties.setProperty("user", arguments[2]);
        properties.setProperty("password", arguments[3]);
        properties.setProperty("sslmode", fields[1]);
        properties.setProperty("loginTimeout", "30");
        if (!fields[2].equals("-")) {
            properties.setProperty("sslrootcert", fields[2]);
        }
        if (!fields[4].equals("-")) {
            properties.setProperty("sslcert", fields[4]);
            // Its key beside it, as Java wants it.
            properties.setProperty("sslkey", fields[5].replaceFirst("\\.key$", ".pk8"));
        }
        String url = "jdbc:postgresql://localhost:" + fields[0] + "/" + arguments[1];
        try (var connection = DriverManager.getConnection(url, properties);
                var statement = connection.prepareStatement("SELECT ?::int + 1")) {
            statement.setInt(1, 41);
            try (var rows = statement.executeQuery()) {
                if (!rows.next() || rows.getInt(1) != 42) {
                    return "refused a wrong answer";
                }
            }
            return isEncrypted(connection) ? "tls" : "clear";
        } catch (Exception error) {
            return "refused " + String.valueOf(error).replaceAll("\\s+", " ");
        }
    }

    private static boolean isEncrypted(Connection connection) throws Exception {
        var executor = connection.unwrap(PgConnection.class).getQueryExecutor();
        var field = QueryExecutorBase.class.getDeclaredField("pgStream");
        field.setAccessible(true);
        return ((PGStream) field.get(executor)).getSocket() instanceof SSLSocket;
    }
}
