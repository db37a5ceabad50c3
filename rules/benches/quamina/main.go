// Measures quamina by the workloads that `cargo bench -p pointsman-rules --bench throughput -- --write FOLDER` has written to a folder:
// thousands of events for each second of CPU time, reading included. `go get quamina.net/go/quamina/v2@latest && go run . FOLDER`
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sort"
	"strings"
	"syscall"
	"time"

	"quamina.net/go/quamina/v2"
)

const rounds, passes = 41, 20

// The CPU time of the whole process, what the collector takes included.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func lines(path string) [][]byte {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return bytes.Split(text, []byte("\n"))
}

func main() {
	names, err := filepath.Glob(filepath.Join(os.Args[1], "*.name"))
	if err != nil {
		panic(err)
	}
	for _, path := range names {
		stem := strings.TrimSuffix(path, ".name")
		name := string(lines(path)[0])
		matcher, err := quamina.New()
		if err != nil {
			panic(err)
		}
		refused := 0
		for number, pattern := range lines(stem + ".patterns") {
			if err := matcher.AddPattern(number, string(pattern)); err != nil {
				refused++
			}
		}
		if refused > 0 {
			fmt.Printf("%-34s  quamina has no operator for %d of the patterns\n", name, refused)
			continue
		}
		events, matches, times := lines(stem+".events"), 0, []time.Duration{}
		for round := 0; round < rounds; round++ {
			debug.FreeOSMemory()
			start := cpuTime()
			matches = 0
			for pass := 0; pass < passes; pass++ {
				for _, event := range events {
					found, err := matcher.MatchesForEvent(event)
					if err != nil {
						panic(err)
					}
					matches += len(found)
				}
			}
			times = append(times, cpuTime()-start)
		}
		sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
		count := passes * len(events)
		fmt.Printf("%-34s%10.2f matches%10.2f k events/s\n", name, float64(matches)/float64(count), float64(count)/times[rounds/2].Seconds()/1e3)
	}
}
