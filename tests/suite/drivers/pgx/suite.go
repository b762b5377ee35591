// pgx 4 at its defaults: every statement is prepared by name and kept, several go in batches.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

func state(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return fmt.Sprint(err)
}

func connect(options string) *pgx.Conn {
	conn, err := pgx.Connect(ctx, options)
	must(err)
	return conn
}

func types() {
	conn := connect("")
	defer conn.Close(ctx)
	when := time.Date(2020, 1, 2, 3, 4, 5, 678901000, time.UTC)
	for round := 0; round < 3; round++ {
		var big int64
		var float float64
		var yes bool
		var text string
		var bytes []byte
		var data map[string]int
		var at time.Time
		var list []int32
		var none *string
		sql := "SELECT $1::int8, $2::float8, $3::bool, $4::text, $5::bytea, $6::jsonb, $7::timestamptz, $8::int[], $9::text"
		row := conn.QueryRow(ctx, sql, int64(1)<<40, 1.5, true, "Ünïcode 🐘", []byte{0, 255}, map[string]int{"a": 1},
			when, []int32{1, 3}, none)
		must(row.Scan(&big, &float, &yes, &text, &bytes, &data, &at, &list, &none))
		equal([]interface{}{big, float, yes, text, bytes, data, at.UTC(), list, none == nil},
			[]interface{}{int64(1) << 40, 1.5, true, "Ünïcode 🐘", []byte{0, 255}, map[string]int{"a": 1}, when,
				[]int32{1, 3}, true})
	}
}

func transactions() {
	conn := connect("")
	defer conn.Close(ctx)
	insert := "INSERT INTO item (who, n) VALUES ($1, $2)"
	must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insert, who, 1)
		must(err)
		err = tx.BeginFunc(ctx, func(nested pgx.Tx) error {
			_, err := nested.Exec(ctx, insert, who, 2)
			must(err)
			_, err = nested.Exec(ctx, "SELECT 1 / $1::int", 0)
			return err
		})
		equal(state(err), "22012")
		return nil
	}))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	must(err)
	_, err = tx.Exec(ctx, insert, who, 3)
	equal(state(err), "25006")
	must(tx.Rollback(ctx))
	var n int
	must(conn.QueryRow(ctx, "SELECT sum(n) FROM item WHERE who = $1", who).Scan(&n))
	equal(n, 1)
}

func prepared() {
	config, err := pgxpool.ParseConfig("pool_max_conns=2")
	must(err)
	pool, err := pgxpool.ConnectConfig(ctx, config)
	must(err)
	defer pool.Close()
	// More texts than its cache of 512 holds would take long: some by hand, and many rounds.
	for round := 0; round < 150; round++ {
		var kept, other int
		must(pool.QueryRow(ctx, "SELECT $1::int * 2", round).Scan(&kept))
		must(pool.QueryRow(ctx, fmt.Sprintf("SELECT %d + $1::int", round), round).Scan(&other))
		equal([]int{kept, other}, []int{2 * round, 2 * round})
	}
	conn := connect("")
	defer conn.Close(ctx)
	_, err = conn.Prepare(ctx, "mine", "SELECT $1::int * 3")
	must(err)
	for round := 0; round < 10; round++ {
		var n int
		must(conn.QueryRow(ctx, "mine", round).Scan(&n))
		equal(n, 3*round)
	}
	must(conn.Deallocate(ctx, "mine"))
	_, err = conn.Exec(ctx, "mine", 1)
	equal(state(err) == "42601" || state(err) == "42703", true)
}

func batches() {
	conn := connect("")
	defer conn.Close(ctx)
	for round := 0; round < 5; round++ {
		batch := &pgx.Batch{}
		for n := 0; n < 100; n++ {
			batch.Queue(fmt.Sprintf("SELECT $1::int + %d", n%5), n)
		}
		results := conn.SendBatch(ctx, batch)
		for n := 0; n < 100; n++ {
			var found int
			must(results.QueryRow().Scan(&found))
			equal(found, n+n%5)
		}
		must(results.Close())
		batch = &pgx.Batch{}
		batch.Queue("INSERT INTO item (who, n) VALUES ($1, 1)", who+"b")
		batch.Queue("SELECT 1 / $1::int", 0)
		equal(state(conn.SendBatch(ctx, batch).Close()), "22012")
	}
	var count int
	must(conn.QueryRow(ctx, "SELECT count(*) FROM item WHERE who = $1", who+"b").Scan(&count))
	equal(count, 0)
}

func copying() {
	conn := connect("")
	defer conn.Close(ctx)
	rows := make([][]interface{}, 2000)
	for n := range rows {
		rows[n] = []interface{}{who + "c", n}
	}
	count, err := conn.CopyFrom(ctx, pgx.Identifier{"item"}, []string{"who", "n"}, pgx.CopyFromRows(rows))
	must(err)
	equal(count, 2000)
	var out strings.Builder
	sql := "COPY (SELECT n FROM item WHERE who = '" + who + "c') TO STDOUT"
	_, err = conn.PgConn().CopyTo(ctx, &out, sql)
	must(err)
	equal(strings.Count(out.String(), "\n"), 2000)
	_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("x\ty\n"), "COPY item (who, n) FROM STDIN")
	equal(state(err), "22P02")
}

func notifications() {
	listener, other := connect(""), connect("")
	defer listener.Close(ctx)
	defer other.Close(ctx)
	_, err := listener.Exec(ctx, "LISTEN \""+who+"\"")
	must(err)
	for _, payload := range []string{"one", "two"} {
		_, err = other.Exec(ctx, "SELECT pg_notify($1, $2)", who, payload)
		must(err)
		limited, stop := context.WithTimeout(ctx, 30*time.Second)
		heard, err := listener.WaitForNotification(limited)
		stop()
		must(err)
		equal(heard.Payload, payload)
	}
}

func cancel() {
	conn, other := connect(""), connect("")
	defer conn.Close(ctx)
	defer other.Close(ctx)
	slept := make(chan error)
	go func() {
		_, err := conn.Exec(ctx, sleep)
		slept <- err
	}()
	for count := 0; count == 0; {
		must(other.QueryRow(ctx, running).Scan(&count))
	}
	must(conn.PgConn().CancelRequest(ctx))
	equal(state(<-slept), "57014")
	_, err := conn.Exec(ctx, "SELECT 1")
	must(err)
}

func timeouts() {
	conn := connect("statement_timeout=100")
	_, err := conn.Exec(ctx, "SELECT pg_sleep(60)")
	equal(state(err), "57014")
	conn.Close(ctx)
	// With a deadline of its own it closes the connection.
	conn = connect("")
	limited, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	_, err = conn.Exec(limited, "SELECT pg_sleep(60)")
	equal(pgconn.Timeout(err), true)
	equal(conn.IsClosed(), true)
}

func settings() {
	conn := connect("application_name=" + who + " datestyle=German")
	defer conn.Close(ctx)
	_, err := conn.Exec(ctx, "SET TimeZone = 'Asia/Tokyo'")
	must(err)
	for round := 0; round < 3; round++ {
		var name, date, zone string
		must(conn.QueryRow(ctx, "SELECT current_setting('application_name'), '2020-01-02'::date::text, "+
			"current_setting('TimeZone')").Scan(&name, &date, &zone))
		equal([]string{name, date, zone}, []string{who, "02.01.2020", "Asia/Tokyo"})
	}
	equal(conn.PgConn().ParameterStatus("TimeZone"), "Asia/Tokyo")
}

func reconnect() {
	pool, err := pgxpool.Connect(ctx, "pool_max_conns=1")
	must(err)
	defer pool.Close()
	_, err = pool.Exec(ctx, "SELECT pg_terminate_backend(pg_backend_pid())")
	equal(state(err), "57P01")
	_, err = pool.Exec(ctx, "SELECT 1")
	must(err)
}
