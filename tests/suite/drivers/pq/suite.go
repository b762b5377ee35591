// lib/pq at its defaults, by database/sql: the unnamed statement, prepared and run in two steps, or by name.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"
)

func state(err error) string {
	var pqErr *pq.Error
	if errors.As(err, &pqErr) {
		return string(pqErr.Code)
	}
	return fmt.Sprint(err)
}

// It asks for TLS unless it is told otherwise: the one thing that is not at its default.
func open(options string) *sql.DB {
	db, err := sql.Open("postgres", "sslmode=disable "+options)
	must(err)
	db.SetMaxOpenConns(2)
	return db
}

func types() {
	db := open("")
	defer db.Close()
	when := time.Date(2020, 1, 2, 3, 4, 5, 678901000, time.UTC)
	for round := 0; round < 3; round++ {
		var big int64
		var float float64
		var yes bool
		var text string
		var bytes []byte
		var at time.Time
		var list []int64
		var none sql.NullString
		query := "SELECT $1::int8, $2::float8, $3::bool, $4::text, $5::bytea, $6::timestamptz, $7::int[], $8::text"
		row := db.QueryRow(query, int64(1)<<40, 1.5, true, "Ünïcode 🐘", []byte{0, 255}, when, pq.Array([]int64{1, 3}), none)
		must(row.Scan(&big, &float, &yes, &text, &bytes, &at, pq.Array(&list), &none))
		equal([]interface{}{big, float, yes, text, bytes, at.UTC(), list, none.Valid},
			[]interface{}{int64(1) << 40, 1.5, true, "Ünïcode 🐘", []byte{0, 255}, when, []int64{1, 3}, false})
	}
}

func transactions() {
	db := open("")
	defer db.Close()
	insert := "INSERT INTO item (who, n) VALUES ($1, $2)"
	tx, err := db.Begin()
	must(err)
	_, err = tx.Exec(insert, who, 1)
	must(err)
	_, err = tx.Exec("SAVEPOINT nested")
	must(err)
	_, err = tx.Exec("SELECT 1 / $1::int", 0)
	equal(state(err), "22012")
	_, err = tx.Exec("ROLLBACK TO nested")
	must(err)
	must(tx.Commit())
	tx, err = db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelSerializable})
	must(err)
	_, err = tx.Exec(insert, who, 2)
	equal(state(err), "25006")
	must(tx.Rollback())
	var n int
	must(db.QueryRow("SELECT sum(n) FROM item WHERE who = $1", who).Scan(&n))
	equal(n, 1)
}

func prepared() {
	db := open("")
	defer db.Close()
	kept, err := db.Prepare("SELECT $1::int * 2")
	must(err)
	for round := 0; round < 100; round++ {
		var n, other int
		must(kept.QueryRow(round).Scan(&n))
		must(db.QueryRow(fmt.Sprintf("SELECT %d + $1::int", round), round).Scan(&other))
		equal([]int{n, other}, []int{2 * round, 2 * round})
	}
	must(kept.Close())
	_, err = db.Prepare("SELECT nothing")
	equal(state(err), "42703")
}

// It has no pipelines; several statements go in one Query.
func batches() {
	db := open("")
	defer db.Close()
	insert := "INSERT INTO item (who, n) VALUES ('" + who + "b', 1);"
	_, err := db.Exec("BEGIN;" + insert + insert + "COMMIT")
	must(err)
	rows, err := db.Query("SELECT 1; SELECT 2")
	must(err)
	for rows.Next() {
	}
	equal(rows.NextResultSet(), true)
	must(rows.Close())
	var count int
	must(db.QueryRow("SELECT count(*) FROM item WHERE who = $1", who+"b").Scan(&count))
	equal(count, 2)
}

func copying() {
	db := open("")
	defer db.Close()
	tx, err := db.Begin()
	must(err)
	stmt, err := tx.Prepare(pq.CopyIn("item", "who", "n"))
	must(err)
	for n := 0; n < 2000; n++ {
		_, err = stmt.Exec(who+"c", n)
		must(err)
	}
	_, err = stmt.Exec()
	must(err)
	must(stmt.Close())
	must(tx.Commit())
	var count int
	must(db.QueryRow("SELECT count(*) FROM item WHERE who = $1", who+"c").Scan(&count))
	equal(count, 2000)
	tx, err = db.Begin()
	must(err)
	stmt, err = tx.Prepare(pq.CopyIn("item", "n"))
	must(err)
	stmt.Exec("y")
	_, err = stmt.Exec()
	equal(state(err), "22P02")
	tx.Rollback()
}

func notifications() {
	db := open("")
	defer db.Close()
	listener := pq.NewListener("sslmode=disable", time.Second, time.Minute, nil)
	defer listener.Close()
	must(listener.Listen(who))
	for _, payload := range []string{"one", "two"} {
		_, err := db.Exec("SELECT pg_notify($1, $2)", who, payload)
		must(err)
		select {
		case heard := <-listener.Notify:
			equal(heard.Extra, payload)
		case <-time.After(30 * time.Second):
			panic("nothing came")
		}
	}
}

// A context that ends sends a CancelRequest.
func cancel() {
	db := open("")
	defer db.Close()
	cancelled, stop := context.WithCancel(ctx)
	slept := make(chan error)
	go func() {
		_, err := db.ExecContext(cancelled, sleep)
		slept <- err
	}()
	for count := 0; count == 0; {
		must(db.QueryRow(running).Scan(&count))
	}
	stop()
	equal(state(<-slept), "57014")
	_, err := db.Exec("SELECT 1")
	must(err)
}

func timeouts() {
	db := open("statement_timeout=100")
	defer db.Close()
	_, err := db.Exec("SELECT pg_sleep(60)")
	equal(state(err), "57014")
	limited, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	_, err = db.ExecContext(limited, "SELECT pg_sleep(60)")
	equal(err != nil, true)
	_, err = db.Exec("SELECT 1")
	must(err)
}

func settings() {
	db := open("application_name=" + who + " datestyle='ISO, MDY'")
	defer db.Close()
	conn, err := db.Conn(ctx)
	must(err)
	defer conn.Close()
	_, err = conn.ExecContext(ctx, "SET TimeZone = 'Asia/Tokyo'")
	must(err)
	for round := 0; round < 3; round++ {
		var name, style, zone string
		must(conn.QueryRowContext(ctx, "SELECT current_setting('application_name'), current_setting('DateStyle'), "+
			"current_setting('TimeZone')").Scan(&name, &style, &zone))
		equal([]string{name, style, zone}, []string{who, "ISO, MDY", "Asia/Tokyo"})
	}
}

func reconnect() {
	db := open("")
	defer db.Close()
	db.SetMaxOpenConns(1)
	_, err := db.Exec("SELECT pg_terminate_backend(pg_backend_pid())")
	equal(err != nil, true)
	_, err = db.Exec("SELECT 1")
	must(err)
}
