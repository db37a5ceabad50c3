//! `pointsman init`: a commented rule file to begin with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use miette::IntoDiagnostic;

use super::error::write_new;
use crate::config::{DEFAULT_PATH, schema};
use crate::output;

/// What `init` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct InitArgs {
    /// What things come from
    #[arg(long, default_value = "ingress")]
    pub source: SourceKind,
    /// What is told of them
    #[arg(long, default_value = "http")]
    pub target: TargetKind,
    /// Where to write it; `-` is standard output
    #[arg(value_name = "FILE", default_value = DEFAULT_PATH)]
    pub file: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    pub force: bool,
}

/// A kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceKind {
    /// CloudEvents over HTTP, which are always taken.
    Ingress,
    /// Calls by HTTP of somebody who signs them.
    Webhook,
    /// A clock.
    Timer,
    /// Files in a folder.
    Directory,
    /// Lines of log files.
    File,
    /// Messages of syslog.
    Syslog,
    /// Entries of the journal of systemd.
    Journald,
    /// Lines that a command prints.
    Exec,
    /// Objects in a bucket.
    ObjectStorage,
    /// Records of a topic.
    Kafka,
    /// Messages of a queue.
    Rabbitmq,
    /// Messages of a queue or a topic, by AMQP 1.0.
    Amqp,
    /// Entries of a stream of Redis.
    Redis,
    /// Rows of an outbox in PostgreSQL.
    Postgres,
    /// Rows of PostgreSQL that change.
    PostgresCdc,
    /// Rows of MySQL and MariaDB that change.
    MysqlCdc,
    /// Messages of topics of an MQTT broker.
    Mqtt,
    /// Messages of a topic of RocketMQ.
    Rocketmq,
    /// Messages of a queue of Amazon SQS.
    Sqs,
    /// Messages of a queue of Alibaba Cloud's MNS.
    Mns,
    /// Messages of a stream.
    Nats,
}

/// A kind of target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TargetKind {
    /// A function that is called by HTTP.
    Http,
    /// A command.
    Exec,
    /// Objects in a bucket.
    ObjectStorage,
    /// Records to a topic.
    Kafka,
    /// Messages to an exchange.
    Rabbitmq,
    /// Messages to a queue or a topic, by AMQP 1.0.
    Amqp,
    /// Entries of a stream of Redis.
    Redis,
    /// Messages to a topic of an MQTT broker.
    Mqtt,
    /// Messages to a topic of RocketMQ.
    Rocketmq,
    /// Messages to a queue of Amazon SQS.
    Sqs,
    /// Messages to a topic of Amazon SNS.
    Sns,
    /// Events on a bus of Amazon EventBridge.
    Eventbridge,
    /// A function of AWS Lambda.
    Lambda,
    /// Messages to a subject.
    Nats,
    /// Messages to a queue of Alibaba Cloud's MNS.
    Mns,
    /// A function of Alibaba Cloud's Function Compute.
    FunctionCompute,
    /// Mail.
    Smtp,
    /// Rows of a table of PostgreSQL.
    Postgres,
    /// Messages to a channel of Slack.
    Slack,
    /// Messages to a channel of Microsoft Teams.
    Teams,
    /// Messages to a channel of Discord.
    Discord,
    /// Alerts of PagerDuty.
    Pagerduty,
    /// Lines of a file.
    File,
    /// The terminal.
    Stdout,
}

// The sections of sources that bring orders, and what their rule matches.
const FILE: &str = "sources:\n  incoming:\n    file: { paths: [./orders.log], format: json, existing: skip } \
                    # a path may have * in it\n    event: { type: order.received, subject: \
                    \"<$.body.order>\" }\n";
const SYSLOG: &str = "sources:\n  incoming:\n    syslog: # try it with: logger -n 127.0.0.1 -P 5514 --udp hello\n      \
                      udp: 127.0.0.1:5514\n      tcp: 127.0.0.1:5514 # and tls: { address, certificate, key }\n";
const JOURNALD: &str = "sources:\n  incoming:\n    journald: { priority: warning, existing: skip } # units, \
                        identifiers, matches …\n";
const EXEC: &str = "sources:\n  incoming:\n    exec: { command: [tail, -n, \"0\", -F, ./orders.log] } \
                 # each line is an event; restart, cursor, output: cloudevents …\n    event: { \
                 type: order.received, subject: \"<$.body.order>\" }\n";
const KAFKA: &str = "sources:\n  incoming:\n    kafka:\n      brokers: \"127.0.0.1:9092\"\n      topics: \
                 [orders]\n      group: pointsman\n      start: earliest # or latest, at the very \
                 first start\n    event: { type: order.received, subject: <$.key> } # of records \
                 that are no CloudEvents\n";
const RABBITMQ: &str = "sources:\n  incoming:\n    rabbitmq:\n      url: \"amqp://127.0.0.1:5672\"\n      \
                 username: app\n      password: { env: AMQP_PASSWORD }\n      queue: orders\n    \
                 event: { type: order.received, subject: \"<$.routing_key>\" } # of messages that \
                 are no CloudEvents\n";
const REDIS: &str = "sources:\n  incoming:\n    redis:\n      url: \"redis://127.0.0.1:6379\" # \
                 rediss for TLS; username, password\n      stream: orders\n      group: \
                 pointsman\n      start: earliest # or latest, where the group is new\n    event: \
                 { type: order.received, subject: \"<$.body.customer>\" } # of entries that are \
                 no CloudEvents\n";
const OUTBOX: &str = "sources:\n  incoming:\n    postgres:\n      url: \"postgres://pointsman@127.0.0.1/shop\" \
                      # sslmode=verify-full; password: { env: PGPASSWORD }\n      outbox: { table: \
                      outbox } # with id, type, subject, data; rows are deleted once they are stored\n      \
                      listen: outbox # a NOTIFY has it look at once\n";
const POSTGRES_CDC: &str = "sources:\n  incoming:\n    postgres-cdc:\n      url: \
                            \"postgres://pointsman@127.0.0.1/shop\" # ?sslmode=require for TLS; \
                            password: { env: PGPASSWORD }\n      tables: [public.orders]\n      \
                            slot: pointsman_shop # is made; drop it when the source goes\n      \
                            snapshot: initial # or never: changes alone\n";
const MYSQL_CDC: &str = "sources:\n  incoming:\n    mysql-cdc:\n      url: \
                         \"mysql://pointsman@127.0.0.1/shop\" # ?ssl-mode=required for TLS; \
                         password: { env: MYSQL_PWD }\n      tables: [shop.orders] # or \
                         \"shop.*\"\n      snapshot: initial # or never: changes alone\n";
const MQTT: &str = "sources:\n  incoming:\n    mqtt:\n      url: \"mqtt://127.0.0.1:1883\" # mqtts \
                 for TLS; username, password\n      client_id: pointsman # nobody else connects \
                 with it\n      topic: \"orders/#\"\n    event: { type: order.received, subject: \
                 <$.topic> } # of messages that are no CloudEvents\n";
const AMQP: &str = "sources:\n  incoming:\n    amqp:\n      url: \"amqp://127.0.0.1:5672\" # amqps \
                    for TLS\n      username: app\n      password: { env: AMQP_PASSWORD }\n      \
                    address: orders\n    event: { type: order.received, subject: \
                    \"<$.body.customer>\" } # of messages that are no CloudEvents\n";
const ROCKETMQ: &str = "sources:\n  incoming:\n    rocketmq:\n      url: \
                        \"rocketmq://127.0.0.1:8081\" # rocketmqs for TLS; credentials\n      topic: \
                        orders\n      group: pointsman\n    event: { type: order.received, \
                        subject: <$.group> } # of messages that are no CloudEvents\n";
const SQS: &str = "sources:\n  incoming:\n    sqs: { queue: orders, region: eu-west-1 } # \
                 credentials, visibility …\n    event: { type: order.received, subject: <$.group> \
                 } # of messages that are no CloudEvents\n";
const MNS: &str = "sources:\n  incoming:\n    mns:\n      queue: orders\n      endpoint: { env: \
                 MNS_ENDPOINT } # https://<account>.mns.<region>.aliyuncs.com; credentials, \
                 visibility …\n    event: { type: order.received, subject: \
                 \"<$.body.customer>\" } # of messages that are no CloudEvents\n";
const NATS: &str = "sources:\n  incoming:\n    nats: { url: \"nats://127.0.0.1:4222\", stream: \
                 ORDERS, consumer: pointsman }\n    event: { type: order.received, subject: \
                 <$.subject> } # of messages that are no CloudEvents\n";
const ORDERS: &str = "    from: incoming\n    match:\n      type: [order.received]\n";

// Sections of targets: those of more lines, and those that tell people.
const FILE_TARGET: &str =
    "  function:\n    file: { path: ./events.jsonl, rotate: { size: 100MiB, keep: 5 } }\n";
const AMQP_TARGET: &str = "  function:\n    amqp:\n      url: \"amqp://127.0.0.1:5672\"\n      username: \
                           app\n      password: { env: AMQP_PASSWORD }\n      address: events\n      \
                           subject: <$.type>\n";
const HTTP: &str = "  function: # try it with: pointsman listen --port 9000\n    http: { url: \
                 \"http://127.0.0.1:9000/\" } # auth: { bearer: { env: TOKEN } }, headers, mode: \
                 structured …\n";
const ROWS: &str = "  function:\n    postgres:\n      url: \"postgres://postgres@127.0.0.1/postgres\" # \
                 sslmode=verify-full; password: { env: PGPASSWORD }\n      table: events\n      \
                 columns: { id: <$.id>, type: <$.type>, data: <$.data> }\n      on_conflict: { \
                 columns: [id], do: nothing } # what comes again is left out; or do: update\n";
const SMTP: &str = "  function:\n    smtp:\n      server: 127.0.0.1\n      port: 1025\n      \
                 encryption: none # on this machine alone; leave it out for STARTTLS\n      # auth: \
                 { username: bus, password: { env: SMTP_PASSWORD } }\n      from: \
                 bus@example.com\n      to: [ada@example.com] # or <$.data.email>; cc, bcc, \
                 reply_to\n      subject: \"<$.type>\"\n      body: \"<$.data>\" # and html\n";
const SLACK: &str = "  function:\n    slack: { url: { env: SLACK_URL } } # text: \"<$.subject> …\", or \
                 the whole body\n";
const TEAMS: &str = "  function:\n    teams: { url: { env: TEAMS_URL } } # title, text: \"<$.subject> \
                 …\", or the whole body\n";
const DISCORD: &str = "  function:\n    discord: { url: { env: DISCORD_URL } } # text: \"<$.subject> …\", \
                 or the whole body\n";
const PAGERDUTY: &str = "  function:\n    pagerduty: { routing_key: { env: PAGERDUTY_KEY } } # action, \
                 dedup_key, summary, severity …\n";

impl SourceKind {
    /// Its section, and what its rule matches.
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Ingress => (
                "# CloudEvents are always taken by POST /events, as the source `ingress`; other \
                 sources are defined here, such as\n#   heartbeat: { timer: { every: 30s } }\n\
                 sources: {}\n",
                "    from: ingress # a source or a list of them; any where left out\n    match: # \
                 every key must match; a list holds alternatives\n      type: [order.paid]\n      \
                 data: { total: [{ numeric: [\">\", 100] }] }\n",
            ),
            Self::Webhook => (
                "sources:\n  incoming:\n    webhook:\n      path: /hooks/incoming # on \
                 `listen`\n      signature: { github: { secret: { env: GITHUB_SECRET } } } # who \
                 signs how; `pointsman schema` has them all\n",
                "    from: incoming\n    match:\n      type: [com.github.push]\n      data: { ref: \
                 [refs/heads/main] }\n",
            ),
            Self::Timer => (
                "sources:\n  incoming:\n    timer: { cron: \"0 9 * * MON-FRI\", timezone: UTC } # \
                 or { every: 30s }\n",
                "    from: incoming # each time that it fires\n",
            ),
            Self::Directory => (
                "sources:\n  incoming:\n    directory: { path: ./inbox } # relative to this file's \
                 folder; make it before the start\n",
                "    from: incoming\n    match:\n      type: [{ suffix: .created }] # also \
                 .deleted\n      subject: [{ suffix: .csv }]\n",
            ),
            Self::File => (FILE, ORDERS),
            Self::Syslog => (
                SYSLOG,
                "    from: incoming\n    match:\n      data: { severity_code: [{ numeric: [\"<=\", 4] \
                 }] } # warnings and what is worse\n",
            ),
            Self::Journald => (
                JOURNALD,
                "    from: incoming\n    match:\n      data: { _SYSTEMD_UNIT: [{ suffix: .service }] }\n",
            ),
            Self::Exec => (EXEC, ORDERS),
            Self::ObjectStorage => (
                "sources:\n  incoming:\n    object-storage:\n      endpoint: \
                 \"http://127.0.0.1:9000\" # leave it out for AWS\n      bucket: uploads\n      \
                 reconcile: 1m # lists the bucket; notifications by SQS or a webhook tell sooner\n",
                "    from: incoming\n    match:\n      type: [{ prefix: \
                 \"com.amazonaws.s3.ObjectCreated\" }]\n      subject: [{ suffix: .jpg }]\n",
            ),
            Self::Kafka => (KAFKA, ORDERS),
            Self::Rabbitmq => (RABBITMQ, ORDERS),
            Self::Redis => (REDIS, ORDERS),
            Self::Postgres => (OUTBOX, ORDERS),
            Self::PostgresCdc => (
                POSTGRES_CDC,
                "    from: incoming\n    match: # also row.read, row.updated, row.deleted\n      \
                 type: [com.pointsman.postgres.row.inserted]\n      data: { after: { total: [{ \
                 numeric: [\">\", 100] }] } }\n",
            ),
            Self::MysqlCdc => (
                MYSQL_CDC,
                "    from: incoming\n    match: # also row.read, row.updated, row.deleted\n      \
                 type: [com.pointsman.mysql.row.inserted]\n      data: { after: { total: [{ \
                 numeric: [\">\", 100] }] } }\n",
            ),
            Self::Mqtt => (MQTT, ORDERS),
            Self::Amqp => (AMQP, ORDERS),
            Self::Rocketmq => (ROCKETMQ, ORDERS),
            Self::Sqs => (SQS, ORDERS),
            Self::Mns => (MNS, ORDERS),
            Self::Nats => (NATS, ORDERS),
        }
    }
}

impl TargetKind {
    fn text(self) -> &'static str {
        match self {
            Self::Http => HTTP,
            Self::Exec => {
                "  function:\n    exec: { command: [sh, -c, \"cat\"] } # the event comes on \
                 standard input, its attributes as CE_…\n"
            }
            Self::ObjectStorage => {
                "  function:\n    object-storage:\n      endpoint: \"http://127.0.0.1:9000\" # \
                 leave it out for AWS\n      bucket: archive\n      key: \"<$.type>/<$.id>.json\"\n"
            }
            Self::Kafka => {
                "  function:\n    kafka: { brokers: \"127.0.0.1:9092\", topic: events } # key: \
                 <$.subject>, mode: structured …\n"
            }
            Self::Rabbitmq => {
                "  function:\n    rabbitmq:\n      url: \"amqp://127.0.0.1:5672\"\n      username: \
                 app\n      password: { env: AMQP_PASSWORD }\n      exchange: events\n      \
                 routing_key: <$.type>\n"
            }
            Self::Amqp => AMQP_TARGET,
            Self::Redis => {
                "  function:\n    redis: { url: \"redis://127.0.0.1:6379\", stream: events, \
                 max_length: 1000000 } # mode: structured, or fields: { order: <$.data.id> } …\n"
            }
            Self::Mqtt => {
                "  function:\n    mqtt: { url: \"mqtt://127.0.0.1:1883\", topic: \
                 \"events/<$.type>\" } # version: \"3.1.1\", mode: structured, retain …\n"
            }
            Self::Rocketmq => {
                "  function:\n    rocketmq: { url: \"rocketmq://127.0.0.1:8081\", topic: events } # \
                 message_group: <$.subject> of a FIFO topic, tag, keys, delay …\n"
            }
            Self::Sqs => {
                "  function:\n    sqs: { queue: events, region: eu-west-1 } # group: <$.subject> \
                 of a FIFO queue, delay, mode: structured …\n"
            }
            Self::Postgres => ROWS,
            Self::Sns => {
                "  function:\n    sns: { topic: \"arn:aws:sns:eu-west-1:123456789012:events\" } # \
                 subject, group: <$.subject> of a FIFO topic, mode: structured …\n"
            }
            Self::Eventbridge => {
                "  function:\n    eventbridge: { bus: default, region: eu-west-1 } # source, \
                 detail_type, resources, mode: structured …\n"
            }
            Self::Lambda => {
                "  function:\n    lambda: { function: orders, region: eu-west-1 } # qualifier, \
                 invocation: event, mode: data …\n"
            }
            Self::Nats => {
                "  function:\n    nats: { url: \"nats://127.0.0.1:4222\", subject: \
                 \"events.<$.type>\" }\n"
            }
            Self::Mns => {
                "  function:\n    mns: { queue: events, endpoint: { env: MNS_ENDPOINT } } # or \
                 topic and tag; credentials, delay, priority …\n"
            }
            Self::FunctionCompute => {
                "  function:\n    function-compute: { function: orders, region: cn-hangzhou } # \
                 qualifier, invocation: async, credentials …\n"
            }
            Self::Smtp => SMTP,
            Self::Slack => SLACK,
            Self::Teams => TEAMS,
            Self::Discord => DISCORD,
            Self::Pagerduty => PAGERDUTY,
            Self::File => FILE_TARGET,
            Self::Stdout => "  function:\n    stdout: {}\n",
        }
    }
}

/// The schema that `init` writes beside the rule file. Its name begins with a dot, so that nobody
/// takes it for one of the rules.
const SCHEMA: &str = ".pointsman.schema.json";

/// Tells editors with a YAML language server what the file is.
const MODELINE: &str = "# yaml-language-server: $schema=./.pointsman.schema.json\n# (made by: \
                        pointsman schema > .pointsman.schema.json)\n#\n";

/// The rule file.
fn text(source: SourceKind, target: TargetKind) -> String {
    let (section, rule) = source.texts();
    let mut text = String::from(MODELINE);
    text.push_str(
        "# A rule file of Pointsman. `pointsman check` finds every mistake in it, `pointsman test` \
         runs its tests, `pointsman run` runs it.\n\nlisten: 127.0.0.1:8080 # where CloudEvents \
         and webhooks come in\nadmin: 127.0.0.1:8081 # API, health and metrics\nstore: { path: \
         ./pointsman-data, retention: 24h }\n\n",
    );
    text.push_str(section);
    text.push_str("\ntargets:\n");
    text.push_str(target.text());
    if target != TargetKind::Stdout {
        text.push_str(
            "    delivery: { timeout: 30s, max_age: 24h, retry: { attempts: 4, backoff: { initial: \
             1s, max: 5m } } } # these are the defaults\n",
        );
    }
    text.push_str("\nrules:\n  first:\n    description: what happens, and who is told\n");
    text.push_str(rule);
    text.push_str(
        "    # where: $.data.total > 100 # a condition as a JSONPath expression\n    # transform: \
         { data: { text: \"seen: <$.subject>\" } } # another event for the target\n    to: \
         function\n",
    );
    if source == SourceKind::Ingress {
        text.push_str(
            "\ntests:\n  a large order is told:\n    event: { type: order.paid, source: /shop, id: \
             \"1\", data: { total: 250 } }\n    expect: { first: {} }\n  a small one is not:\n    \
             event: { type: order.paid, source: /shop, id: \"2\", data: { total: 5 } }\n    \
             expect: {}\n",
        );
    }
    text
}

/// Writes the rule file.
///
/// # Errors
/// There is a file already, or it cannot be written.
pub fn run(args: &InitArgs) -> Result<ExitCode, miette::Report> {
    let text = text(args.source, args.target);
    if args.file == Path::new("-") {
        output::print(&text).into_diagnostic()?;
        return Ok(ExitCode::SUCCESS);
    }
    write_new(&args.file, &text, args.force)?;
    // It is this program's own, whoever wrote it before.
    let schema = output::json(&schema::rule_file()).into_diagnostic()?;
    write_new(&args.file.with_file_name(SCHEMA), &schema, true)?;
    let name = args.file.display();
    output::print(&format!(
        "wrote {name}; now: pointsman check {name}, then pointsman run {name}\n"
    ))
    .into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::config::Config;

    #[test]
    fn every_rule_file_is_sound_and_passes_its_tests() {
        for source in SourceKind::value_variants() {
            for target in TargetKind::value_variants() {
                let text = text(*source, *target);
                let (config, warnings) = Config::of_text("pointsman.yaml", Path::new("/"), &text)
                    .unwrap_or_else(|told| panic!("{text}\n{told:?}"));
                assert!(warnings.is_empty(), "{warnings:?}\n{text}");
                assert_eq!((config.rules.len(), config.targets.len()), (1, 1));
                for tried in super::super::test::RulesInTest::new(config).run() {
                    assert!(
                        tried.failures.is_empty() && tried.differences.is_empty(),
                        "{tried:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pointsman.yaml");
        let args = |force| InitArgs {
            source: SourceKind::Timer,
            target: TargetKind::Stdout,
            file: file.clone(),
            force,
        };
        assert!(run(&args(false)).is_ok());
        std::fs::write(&file, "mine").unwrap();
        assert!(
            run(&args(false))
                .unwrap_err()
                .to_string()
                .contains("already")
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        assert!(run(&args(true)).is_ok());
        assert!(std::fs::read_to_string(&file).unwrap().contains("timer"));
        // The modeline names a file that is there, and that is the schema.
        let text = std::fs::read_to_string(&file).unwrap();
        let path = text
            .lines()
            .next()
            .unwrap()
            .strip_prefix("# yaml-language-server: $schema=")
            .unwrap();
        let schema: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.path().join(path)).unwrap()).unwrap();
        assert_eq!(schema, schema::rule_file());
        // It is none of the rules.
        assert_eq!(
            crate::config::files::yaml_files(folder.path()).unwrap(),
            [file]
        );
    }
}
