# ruby-pg at its defaults.
require 'pg'

# Of this process alone: rows and channels are told apart by it.
WHO = ENV.fetch('WHO')
SLEEP = "SELECT pg_sleep(60) /* #{WHO} */"
RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '#{SLEEP}%' " \
          'AND pid <> pg_backend_pid()'

def connect(options = {})
  connection = PG.connect(options)
  yield connection
ensure
  connection&.close unless connection&.finished?
end

def equal(found, expected)
  raise "#{found.inspect} is not #{expected.inspect}" unless found == expected
end

def fails(*kinds)
  yield
rescue *kinds
  nil
else
  raise "none of #{kinds}"
end

def types
  connect do |connection|
    connection.type_map_for_results = PG::BasicTypeMapForResults.new(connection)
    sql = 'SELECT $1::int8, $2::float8, $3::bool, $4::text, $5::bytea, $6::int[], $7::text'
    bytes = { value: "\x00\xff".b, format: 1 }
    3.times do
      row = connection.exec_params(sql, [2**40, 1.5, true, 'Ünïcode 🐘', bytes, '{1,NULL,3}', nil]).values.first
      equal row, [2**40, 1.5, true, 'Ünïcode 🐘', "\x00\xff".b, [1, nil, 3], nil]
    end
    equal connection.exec_params('SELECT $1::int8', ['7'], 1).values, [[7]]
  end
end

def transactions
  connect do |connection|
    insert = 'INSERT INTO item (who, n) VALUES ($1, $2)'
    connection.transaction do
      connection.exec_params(insert, [WHO, 1])
      connection.exec('SAVEPOINT nested')
      fails(PG::DivisionByZero) { connection.exec_params('SELECT 1 / $1::int', [0]) }
      connection.exec('ROLLBACK TO nested')
    end
    fails(RuntimeError) do
      connection.transaction do
        connection.exec_params(insert, [WHO, 2])
        raise 'no'
      end
    end
    connection.exec('BEGIN READ ONLY')
    fails(PG::ReadOnlySqlTransaction) { connection.exec_params(insert, [WHO, 3]) }
    connection.exec('ROLLBACK')
    equal connection.exec_params('SELECT n FROM item WHERE who = $1', [WHO]).values, [['1']]
    # Rows one by one.
    connection.send_query('SELECT n FROM generate_series(1, 1000) n')
    connection.set_single_row_mode
    count = 0
    connection.get_result.stream_each { count += 1 }
    connection.get_last_result
    equal count, 1000
  end
end

def prepared
  connect do |connection|
    connection.prepare('kept', 'SELECT $1::int * 2')
    40.times do |n|
      equal connection.exec_prepared('kept', [n]).getvalue(0, 0), (2 * n).to_s
      connection.prepare("s#{n}", "SELECT #{n} + $1::int")
      equal connection.exec_prepared("s#{n}", [n]).getvalue(0, 0), (2 * n).to_s
    end
    equal connection.describe_prepared('kept').nparams, 1
    fails(PG::DuplicatePstatement) { connection.prepare('kept', 'SELECT 1') }
    connection.exec('DEALLOCATE kept')
    fails(PG::InvalidSqlStatementName) { connection.exec_prepared('kept', [1]) }
  end
end

def batches
  connect do |connection|
    connection.enter_pipeline_mode
    100.times { |n| connection.send_query_params('SELECT $1::int', [n]) }
    connection.send_query_params('SELECT 1 / $1::int', [0])
    connection.send_query_params('SELECT 3', [])
    connection.pipeline_sync
    states = []
    found = []
    loop do
      result = connection.get_result or next
      states << result.result_status
      break if result.result_status == PG::PGRES_PIPELINE_SYNC

      found << result.getvalue(0, 0) if result.result_status == PG::PGRES_TUPLES_OK
    rescue PG::Error => error
      states << error.result.result_status
    end
    connection.exit_pipeline_mode
    equal found, (0...100).map(&:to_s)
    equal states.count(PG::PGRES_PIPELINE_ABORTED), 1
    connection.exec("BEGIN; INSERT INTO item (who, n) VALUES ('#{WHO}b', 1); COMMIT")
    equal connection.exec("SELECT count(*) FROM item WHERE who = '#{WHO}b'").getvalue(0, 0), '1'
  end
end

def copy
  connect do |connection|
    rows = (0...2000).map { |n| "#{WHO}c\t#{n}\n" }
    connection.copy_data('COPY item (who, n) FROM STDIN') { rows.each { |row| connection.put_copy_data(row) } }
    found = []
    connection.copy_data("COPY (SELECT who, n FROM item WHERE who = '#{WHO}c' ORDER BY n) TO STDOUT") do
      while (row = connection.get_copy_data)
        found << row
      end
    end
    equal found, rows
    fails(PG::InvalidTextRepresentation) do
      connection.copy_data('COPY item (who, n) FROM STDIN') { connection.put_copy_data("x\ty\n") }
    end
    equal connection.exec('SELECT 1').values, [['1']]
  end
end

def notifications
  connect do |listener|
    connect do |other|
      listener.exec("LISTEN \"#{WHO}\"")
      %w[one two].each do |payload|
        other.exec_params('SELECT pg_notify($1, $2)', [WHO, payload])
        heard = nil
        listener.wait_for_notify(30) { |_channel, _pid, text| heard = text }
        equal heard, payload
      end
    end
  end
end

def cancel
  connect do |connection|
    connect do |other|
      connection.send_query(SLEEP)
      nil while other.exec(RUNNING).getvalue(0, 0) == '0'
      connection.cancel
      fails(PG::QueryCanceled) { connection.get_last_result }
      equal connection.exec('SELECT 1').values, [['1']]
    end
  end
end

def timeouts
  connect(options: '-c statement_timeout=100') do |connection|
    fails(PG::QueryCanceled) { connection.exec('SELECT pg_sleep(60)') }
    equal connection.exec('SHOW statement_timeout').getvalue(0, 0), '100ms'
  end
end

def settings
  connect(application_name: WHO) do |connection|
    connection.exec("SET TimeZone = 'Asia/Tokyo'")
    connection.set_client_encoding('LATIN1')
    3.times do
      row = connection.exec("SELECT current_setting('application_name'), current_setting('TimeZone')").values.first
      equal row, [WHO, 'Asia/Tokyo']
    end
    equal connection.parameter_status('client_encoding'), 'LATIN1'
    equal connection.exec('SELECT length($$ü$$)'.encode('ISO-8859-1')).getvalue(0, 0), '1'
  end
end

def reconnect
  connect do |connection|
    fails(PG::Error) { connection.exec('SELECT pg_terminate_backend(pg_backend_pid())') }
    connection.reset
    equal connection.exec('SELECT 1').values, [['1']]
  end
end

%i[types transactions prepared batches copy notifications cancel timeouts settings reconnect].each do |check|
  send(check)
  puts "ok #{check}"
  $stdout.flush
end
