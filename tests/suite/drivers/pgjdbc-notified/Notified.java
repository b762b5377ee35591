import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

/** Listens, works until it is told, and prints what it is notified of. Asks without waiting: that is FIONREAD on its socket. */
public class Notified {
    public static void main(String[] arguments) throws Exception {
        int wanted = Integer.parseInt(arguments[1]);
        try (Connection connection = DriverManager.getConnection(arguments[0]);
                Statement statement = connection.createStatement()) {
            statement.execute("LISTEN news");
            for (int round = 0; round < 200; round++) {
                try (ResultSet rows = statement.executeQuery("SELECT " + round)) {
                    rows.next();
                    if (rows.getInt(1) != round) {
                        throw new IllegalStateException("another answer");
                    }
                }
            }
            System.out.println("ready");
            System.out.flush();
            PGConnection listener = connection.unwrap(PGConnection.class);
            int seen = 0;
            while (seen < wanted) {
                PGNotification[] told = listener.getNotifications();
                for (PGNotification notification : told == null ? new PGNotification[0] : told) {
                    System.out.println(notification.getName() + " " + notification.getParameter());
                    seen++;
                }
                Thread.sleep(1);
            }
            System.out.flush();
        }
    }
}
