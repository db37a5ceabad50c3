// Measures event-ruler by the workloads that `cargo bench -p pointsman-rules --bench throughput -- --write FOLDER` has written to a folder:
// thousands of events for each second of CPU time, reading included. In this folder:
// `mvn dependency:copy-dependencies -DoutputDirectory=JARS && java -cp 'JARS/*' Ruler.java FOLDER`
import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import software.amazon.event.ruler.Machine;

public class Ruler {
    // Each workload is measured for so long, after as long a time of warming up.
    static final long NANOSECONDS = 8_000_000_000L;

    public static void main(String[] arguments) throws Exception {
        var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        for (int number = 0; Files.exists(Path.of(arguments[0], number + ".name")); number++) {
            String name = Files.readString(Path.of(arguments[0], number + ".name"));
            Machine machine = new Machine();
            int refused = 0, at = 0;
            for (String pattern : Files.readAllLines(Path.of(arguments[0], number + ".patterns"))) {
                try {
                    machine.addRule("rule" + at++, pattern);
                } catch (Exception error) {
                    refused++;
                }
            }
            if (refused > 0) {
                System.out.printf("%-34s  event-ruler has no operator for %d of the patterns%n", name, refused);
                continue;
            }
            List<String> events = Files.readAllLines(Path.of(arguments[0], number + ".events"));
            // The CPU time of the whole process counts, what the collector and the compiler take included.
            double perSecond = 0, matches = 0;
            for (int turn = 0; turn < 2; turn++) {
                long start = system.getProcessCpuTime(), count = 0, found = 0;
                while (system.getProcessCpuTime() - start < NANOSECONDS) {
                    for (String event : events) {
                        found += machine.rulesForJSONEvent(event).size();
                    }
                    count += events.size();
                }
                perSecond = count * 1e9 / (system.getProcessCpuTime() - start);
                matches = (double) found / count;
            }
            System.out.printf("%-34s%10.2f matches%10.2f k events/s%n", name, matches, perSecond / 1e3);
        }
    }
}
