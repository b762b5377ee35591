// What the suites in Go share: who they are, and how they say what they checked.
package main

import (
	"context"
	"fmt"
	"os"
)

// Of this process alone: rows and channels are told apart by it.
var who = os.Getenv("WHO")
var ctx = context.Background()

// What a statement that is to be cancelled looks like, and whether it runs.
var sleep = "SELECT pg_sleep(60) /* " + who + " */"
var running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '" + sleep +
	"%' AND pid <> pg_backend_pid()"

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(found, expected interface{}) {
	if fmt.Sprint(found) != fmt.Sprint(expected) {
		panic(fmt.Sprintf("%v is not %v", found, expected))
	}
}

// Every driver has all of them.
func main() {
	checks := []struct {
		name string
		run  func()
	}{
		{"types", types}, {"transactions", transactions}, {"prepared", prepared}, {"batches", batches}, {"copy", copying},
		{"notifications", notifications}, {"cancel", cancel}, {"timeouts", timeouts}, {"settings", settings},
		{"reconnect", reconnect},
	}
	for _, check := range checks {
		check.run()
		fmt.Println("ok", check.name)
	}
}
