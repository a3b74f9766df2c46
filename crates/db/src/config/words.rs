//! The parameters of libpq, Prisma, other pools and providers that are not ours: what becomes of each.

use crate::config::parameters::PARAMETERS;

/// What becomes of a parameter that is not in [`PARAMETERS`].
#[derive(Clone, Copy)]
pub(crate) enum Word {
    /// It is taken: a part of the URL under libpq's name for it.
    Part,
    /// It changes nothing here with one of these values (with any, if there are none). With another one it is refused, and
    /// this is what to do.
    Needless(&'static [&'static str], &'static str),
    /// Ours is another one.
    Write(&'static str),
    /// It is refused, and this is what to do.
    Refused(&'static str),
}

use Word::{Needless, Part, Refused, Write};

const NO_KERBEROS: &str =
    "remove it: sqlx speaks no GSSAPI; sslmode=verify-full encrypts and checks the server";
const NO_REVOCATION: &str = "remove it: sqlx reads no lists of revoked certificates";
const NO_OAUTH: &str = "remove it: sqlx knows no OAuth; `Config::credentials` asks your code for a token in the place of the password";
const KEEPALIVE: &str = "remove it: sqlx cannot set TCP keepalive; options=-c%20tcp_keepalives_idle%3D60 has the server \
                         keep the connection alive, and socket_timeout bounds the wait for an answer";
const PREPARED: &str = "remove it: prepared statements work also through PgBouncer 1.21 or later, which is found without a word; \
                        statement_cache_size says how many are kept";
const SESSIONS: &str = "remove it: sessions have the driver's setting; convert in SQL (`at time zone`, `to_char`), or set it in `Config::after_connect`";
const PROVIDER: &str = "remove it: it is for Supabase's integration, and nothing here needs it";

/// All names, with blanks between those that mean the same, and what becomes of them. Case, `_` and `-` do not matter.
pub(crate) const WORDS: &[(&str, Word)] = &[
    // libpq 18
    (
        "user password port dbname hostaddr ssl fallback_application_name",
        Part,
    ),
    (
        "client_encoding",
        Needless(
            &["UTF8", "utf8", "UTF-8", "utf-8", "auto"],
            "the driver reads no other encoding",
        ),
    ),
    (
        "channel_binding",
        Needless(
            &["disable", "prefer"],
            "write sslmode=verify-full in its place: sqlx's SCRAM cannot bind the channel, and a server whose certificate and \
             name are checked is protected from the same",
        ),
    ),
    ("gssencmode", Needless(&["disable", "prefer"], NO_KERBEROS)),
    (
        "sslnegotiation",
        Needless(
            &["postgres"],
            "remove it: sqlx begins TLS as PostgreSQL before 17 does, which every server takes",
        ),
    ),
    ("sslcompression", Needless(&["0"], "TLS is not compressed")),
    (
        "sslsni",
        Needless(&["1"], "the server's name is always sent"),
    ),
    (
        "sslcertmode",
        Needless(
            &["allow"],
            "remove it: the client's certificate is sent if sslcert and sslkey name one",
        ),
    ),
    (
        "ssl_min_protocol_version",
        Needless(
            &["TLSv1", "TLSv1.1", "TLSv1.2"],
            "remove it: TLS 1.2 and 1.3 are spoken, the higher if the server knows it",
        ),
    ),
    (
        "ssl_max_protocol_version",
        Needless(
            &["TLSv1.3"],
            "remove it: TLS 1.2 and 1.3 are spoken, the higher if the server knows it",
        ),
    ),
    (
        "min_protocol_version",
        Needless(
            &["3.0"],
            "remove it: sqlx speaks version 3.0 of the protocol",
        ),
    ),
    ("max_protocol_version", Needless(&[], "")),
    (
        "load_balance_hosts",
        Needless(
            &["disable"],
            "remove it: all connections of a pool are with one server; DATABASE_REPLICA_URLS names replicas to read from",
        ),
    ),
    ("keepalives", Needless(&["0"], KEEPALIVE)),
    (
        "keepalives_idle keepalives_interval keepalives_count tcp_user_timeout tcpKeepAlive keepAlive",
        Refused(KEEPALIVE),
    ),
    (
        "replication",
        Needless(
            &["false", "off", "no", "0"],
            "remove it: a pool's connections carry statements, not replication",
        ),
    ),
    ("geqo", Refused("write options=-c%20geqo%3Doff, or on")),
    (
        "passfile",
        Refused("remove it, and name the file in the variable PGPASSFILE"),
    ),
    (
        "service servicefile",
        Refused("write what the service's entry has into the URL: files of services are not read"),
    ),
    (
        "require_auth",
        Refused(
            "remove it: sqlx answers what the server asks for; sslmode=verify-full makes sure that it is the right server",
        ),
    ),
    (
        "requirepeer",
        Refused(
            "remove it: sqlx does not ask for whom a unix socket's server runs as; the rights of its folder decide",
        ),
    ),
    ("requiressl", Write("sslmode=require")),
    ("sslcrl sslcrldir", Refused(NO_REVOCATION)),
    (
        "sslkeylogfile",
        Refused("remove it: the keys of TLS are not written down"),
    ),
    ("krbsrvname gsslib gssdelegation", Refused(NO_KERBEROS)),
    (
        "scram_client_key scram_server_key",
        Refused("write the password: sqlx logs in with nothing else"),
    ),
    (
        "oauth_issuer oauth_client_id oauth_client_secret oauth_scope",
        Refused(NO_OAUTH),
    ),
    // Prisma
    (
        "single_use_connections",
        Needless(&["false"], "a connection is used again"),
    ),
    (
        "sslidentity",
        Refused("convert it to PEM files and name them in sslcert and sslkey"),
    ),
    (
        "sslpassword",
        Refused(
            "it belongs to sslidentity or to an encrypted key, which cannot be read: name PEM files without a password in sslcert and sslkey",
        ),
    ),
    // How other pools name what ours have
    (
        "max max_connections maxPoolSize maximumPoolSize max_size pool pool_size pool_max_size pool_max_conns max_open_conns db_pool limit",
        Write("connection_limit"),
    ),
    (
        "min min_size minPoolSize minimumIdle min_idle pool_min_conns pool_min_size",
        Write("min_connections"),
    ),
    (
        "acquire_timeout acquireTimeoutMillis connectionTimeoutMillis connectionTimeout checkout_timeout queue_timeout waitForConnectionTimeout maxWait",
        Write("pool_timeout"),
    ),
    (
        "connectTimeoutMillis connectTimeoutMS loginTimeout timeout connection_timeout_millis",
        Write("connect_timeout"),
    ),
    (
        "idle_timeout idleTimeoutMillis pool_max_conn_idle_time connectionIdleLifetime max_idle_time conn_max_idle_time",
        Write("max_idle_connection_lifetime"),
    ),
    (
        "max_lifetime maxLifetimeSeconds max_conn_lifetime pool_max_conn_lifetime connectionLifetime conn_max_age conn_max_lifetime pool_recycle max_age",
        Write("max_connection_lifetime"),
    ),
    (
        "query_timeout command_timeout read_timeout socketTimeoutMillis",
        Write("socket_timeout"),
    ),
    (
        "queue_size max_waiting maxWaitQueueSize max_overflow",
        Write("queue_limit"),
    ),
    ("leakDetectionThreshold", Write("leak_threshold")),
    (
        "statement_cache_capacity prepared_statement_cache_size preparedStatementCacheQueries max_cached_statement prepared_statement_cache_queries",
        Write("statement_cache_size"),
    ),
    (
        "prepared_statements prepare prepareThreshold prepare_threshold preferQueryMode default_query_exec_mode binary_parameters disable_prepared_statements autoPrepare",
        Refused(PREPARED),
    ),
    (
        "currentSchema search_path schemas schema_search_path",
        Write("schema"),
    ),
    ("appName", Write("application_name")),
    ("targetServerType", Write("target_session_attrs")),
    (
        "loadBalanceHosts read_write_splitting reWriteBatchedInserts stringtype tcp_nodelay ssl_sni pool_health_check_period pool_pre_ping pool_mode max_client_conn",
        Refused("remove it: it is for another driver or pool, and nothing here needs it"),
    ),
    (
        "sslrootcertificate sslca ssl_ca ssl_root_cert ca sslrootcertfile",
        Write("sslrootcert"),
    ),
    ("ssl_cert ssl_client_cert", Write("sslcert")),
    ("ssl_key ssl_client_key", Write("sslkey")),
    ("ssl_mode tls use_ssl sslfactory encrypt", Write("sslmode")),
    (
        "uselibpqcompat",
        Refused(
            "remove it: sslmode has libpq's meaning here; sslmode=verify-full checks the server's certificate and name",
        ),
    ),
    ("supa workaround", Refused(PROVIDER)),
    (
        "endpoint project",
        Refused(
            "remove it: the driver names the server when TLS begins (SNI), which is what Neon needs",
        ),
    ),
    (
        "TimeZone time_zone",
        Needless(&["UTC", "utc", "Etc/UTC"], SESSIONS),
    ),
    (
        "DateStyle",
        Needless(&["ISO", "ISO, MDY", "iso, mdy"], SESSIONS),
    ),
    ("username", Write("user")),
    ("database db", Write("dbname")),
    ("hostname server", Write("host")),
];

/// What becomes of a parameter with this name.
pub(crate) fn word(key: &str) -> Option<Word> {
    let like = |name: &&str| plain(name) == plain(key);
    let mut known = WORDS
        .iter()
        .filter_map(|(names, word)| Some((names.split(' ').find(like)?, *word)));
    match known.next() {
        // Its own name, written as another language writes it.
        Some((name, Part)) if name != key => Some(Write(name)),
        Some((_, word)) => Some(word),
        None => {
            let mut ours = PARAMETERS.iter().map(|(name, ..)| *name);
            ours.find(like).map(Write)
        }
    }
}

/// The parameter that a misspelt one was meant to be, of those that are taken.
pub(crate) fn nearest(key: &str) -> Option<&'static str> {
    let parts = WORDS.iter().filter(|(_, word)| matches!(word, Part));
    let taken = PARAMETERS.iter().map(|(name, ..)| *name);
    taken
        .chain(parts.flat_map(|(names, _)| names.split(' ')))
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.8)
        .map(|(_, name)| name)
}

fn plain(name: &str) -> String {
    let letters = name.chars().filter(|c| !matches!(c, '_' | '-' | '.'));
    letters.collect::<String>().to_ascii_lowercase()
}
