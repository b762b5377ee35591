import java.sql.DriverManager;
import java.util.Properties;

/** Arguments: CA file, database, then port and sslmode in turn. Prints how each attempt ended. */
public class Probe {
    public static void main(String[] arguments) {
        for (int at = 2; at + 1 < arguments.length; at += 2) {
            Properties properties = new Properties();
            properties.setProperty("user", "app");
            properties.setProperty("password", "app-password");
            properties.setProperty("sslmode", arguments[at + 1]);
            properties.setProperty("sslrootcert", arguments[0]);
            String url = "jdbc:postgresql://localhost:" + arguments[at] + "/" + arguments[1];
            try (var connection = DriverManager.getConnection(url, properties);
                    var statement = connection.prepareStatement("SELECT ? || ' in'")) {
                statement.setString(1, "let");
                try (var rows = statement.executeQuery()) {
                    rows.next();
                    System.out.println(rows.getString(1));
                }
            } catch (Exception error) {
                System.err.println(arguments[at] + " " + arguments[at + 1] + ": " + error);
                System.out.println("refused");
            }
        }
    }
}
