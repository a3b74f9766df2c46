//! What people paste as `DATABASE_URL`: taken as libpq and Prisma take it, or refused with a clear word.

mod support;

use db::{Config, ConfigError};

/// What is wrong with a URL; no secret of it may be said.
fn refused(url: &str) -> String {
    let error = Config::parse(url).expect_err(url);
    let printed = format!("{error} {error:?}");
    assert!(!printed.contains("canary"), "{url}: {printed}");
    error.to_string()
}

#[test]
fn a_url_means_what_libpq_means_by_it() {
    // Text of the URL; address, user, database.
    let taken = [
        ("postgres://u@h", "h:5432", "u", "u"),
        ("postgres://u@h/", "h:5432", "u", "u"),
        ("postgresql://u:p@h:1/d", "h:1", "u", "d"),
        ("POSTGRES://u@h/d", "h:5432", "u", "d"),
        ("\u{feff}postgres://u@h/d\r\n", "h:5432", "u", "d"),
        ("postgres://u:p@/d?host=/run/pg", "/run/pg", "u", "d"),
        (
            "postgres://u:p@/d?host=/cloudsql/a:b:c",
            "/cloudsql/a:b:c",
            "u",
            "d",
        ),
        ("postgres://u@localhost/d?host=/run/pg", "/run/pg", "u", "d"),
        ("postgres://u@%2Frun%2Fpg/d", "/run/pg", "u", "d"),
        ("postgres:///d?user=u&host=h&port=7", "h:7", "u", "d"),
        (
            "postgres://h?user=u&password=p&dbname=d",
            "h:5432",
            "u",
            "d",
        ),
        ("postgres://v@h/e?user=u&dbname=d", "h:5432", "u", "d"),
        (
            "postgres://u@h/d?hostaddr=127.0.0.1",
            "127.0.0.1:5432",
            "u",
            "d",
        ),
        (
            "postgres://u@/d?hostaddr=127.0.0.1",
            "127.0.0.1:5432",
            "u",
            "d",
        ),
        ("postgres://u@/d?host=a,b&port=1,2", "a:1,b:2", "u", "d"),
        ("postgres://u@/d?host=a,b&port=1", "a:1,b:1", "u", "d"),
        ("postgres://u@a:1,b:2/d", "a:1,b:2", "u", "d"),
        (
            "postgres://u@a,b/d?hostaddr=10.0.0.1,",
            "10.0.0.1:5432,b:5432",
            "u",
            "d",
        ),
        (
            "postgres://u@a,b/d?hostaddr=10.0.0.1,10.0.0.2",
            "10.0.0.1:5432,10.0.0.2:5432",
            "u",
            "d",
        ),
        ("postgres://u@[::1]:6/d", "::1:6", "u", "d"),
        ("postgres://u@/d?host=::1", "::1:5432", "u", "d"),
        ("postgres://u@/d?host=[::1],a", "::1:5432,a:5432", "u", "d"),
        ("postgres://u@h:/d", "h:5432", "u", "d"),
        ("postgres://u@h/d?", "h:5432", "u", "d"),
        ("postgres://u@h/d?connection_limit=3&", "h:5432", "u", "d"),
        ("postgres://u@h//d", "h:5432", "u", "/d"),
        ("postgres://u@h/a%2Fb%3F%25%C3%A9", "h:5432", "u", "a/b?%é"),
        (
            "postgres://shop%40server:p@h/d",
            "h:5432",
            "shop@server",
            "d",
        ),
        (
            "postgres://postgres.abc:p@h:6543/d",
            "h:6543",
            "postgres.abc",
            "d",
        ),
        ("postgres:///d", "localhost:5432", "", "d"),
    ];
    for (url, address, user, database) in taken {
        let config = Config::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(config.address(), address, "{url}");
        assert_eq!(config.database(), database, "{url}");
        assert!(
            user.is_empty() || config.username() == user,
            "{url}: {config:?}"
        );
    }
    let nobody = Config::parse("postgres://h").expect("valid");
    assert_eq!(nobody.database(), nobody.username(), "as libpq");
}

#[test]
fn what_is_no_url_is_named_with_what_to_do() {
    for (text, word) in [
        ("", "empty"),
        (" \n", "empty"),
        (
            "host=h dbname=d user=u password=canary",
            "libpq's form of keywords",
        ),
        ("dbname=canary", "libpq's form of keywords"),
        ("Server=h;Port=5432;User Id=u;Password=canary", ".NET"),
        ("DATABASE_URL=postgres://u:canary@h/d", "behind the `=`"),
        (
            "DATABASE_URL = \"postgres://u:canary@h/d\"",
            "behind the `=`",
        ),
        ("export PG_URL=postgres://u:canary@h/d", "behind the `=`"),
        ("psql postgres://u:canary@h/d", "command of psql"),
        ("psql 'postgres://u:canary@h/d'", "command of psql"),
        ("'postgres://u:canary@h/d'", "in quotes"),
        ("\"postgres://u:canary@h/d\"", "in quotes"),
        ("`postgres://u:canary@h/d`", "in quotes"),
        ("postgres://u:canary@h/d'", "quote"),
        (r#"{"username":"u","password":"canary","host":"h"}"#, "JSON"),
        ("postgresql+asyncpg://u:canary@h/d", "SQLAlchemy"),
        ("postgres+psycopg2://u:canary@h/d", "SQLAlchemy"),
        ("ecto://u:canary@h/d", "write postgres://"),
        ("postgis://u:canary@h/d", "write postgres://"),
        ("pgsql://u:canary@h/d", "write postgres://"),
        ("jdbc:postgresql://h/d?user=u&password=canary", "Java"),
        (
            "prisma://accelerate.example/?api_key=canary",
            "HTTP service",
        ),
        (
            "prisma+postgres://localhost:51213/?api_key=canary",
            "HTTP service",
        ),
        ("https://u:canary@db.example/d", "connection string"),
        ("mysql://u:canary@h/d", "must begin with"),
        ("canary", "must begin with"),
        ("postgres:canary", "must begin with"),
        ("postgres://u:[YOUR-PASSWORD]@h/d", "placeholder"),
        ("postgres://u:[your_password]@h/d", "placeholder"),
        ("postgres://u:${DB_PASSWORD}@h/d", "placeholder"),
        ("postgres://u:<password>@h/d", "placeholder"),
        ("postgres://u:{{password}}@h/d", "placeholder"),
        ("postgres://u:********@h/d", "placeholder"),
        ("postgres://<user>:canary@h/d", "placeholder"),
        ("postgres://u:canary@[HOST]/d", "placeholder"),
        ("postgres://u:canary@h/<database>", "placeholder"),
        ("postgres://u:canary@<host>:5432/d", "placeholder"),
        ("postgres://u:canary@[HOST]:5432/d", "placeholder"),
        ("postgres://h/d?user=u&password=s3&canary=1", "%26"),
        ("postgres://u:can\tary@h/d", "%09"),
        ("postgres://u:canary@h\n.example/d", "line break"),
        ("postgres://u:canary@h,/d", "beside a comma"),
        ("postgres://u:canary@::1/d", "in brackets"),
        ("postgres://u:canary@[::1/d", "`]`"),
        ("postgres://u:canary@h:0/d", "65535"),
        ("postgres://u:canary@a:1,b:2/d?port=1,2,3", "one for each"),
        (
            "postgres://u:canary@a,b/d?hostaddr=10.0.0.1",
            "as many addresses",
        ),
        ("postgres://h/d?user=u&password=s3&canary", "%26"),
    ] {
        let said = refused(text);
        assert!(said.contains(word), "{text}: {said}");
        assert!(said.contains("DATABASE_URL"), "{text}: {said}");
    }
}

/// Passwords are what is between the marks, decoded; a raw character that is no mark is itself.
#[tokio::test]
async fn every_password_that_libpq_can_send_gets_in() {
    let server = local_postgres::shared();
    let passwords = [
        (
            ":/?#[]@!$&'()*+,;=%\"<>\\^`{|}~ é€",
            "%3A%2F%3F%23%5B%5D%40!%24%26'()*%2B%2C%3B%3D%25%22%3C%3E%5C%5E%60%7B%7C%7D~%20%C3%A9%E2%82%AC",
        ),
        ("a+b", "a+b"),
        ("pa$word", "pa$word"),
        ("[YOUR-PASSWORD]", "%5BYOUR-PASSWORD%5D"),
        ("100%sure", "100%25sure"),
    ];
    for (number, (password, written)) in passwords.into_iter().enumerate() {
        let role = format!("password_{number}");
        let quoted = password.replace('\'', "''");
        server
            .sql(
                "postgres",
                &format!("create role {role} login password '{quoted}'"),
            )
            .expect("a role");
        let url = format!(
            "postgres://{role}:{written}@127.0.0.1:{}/postgres",
            server.port()
        );
        let pool = db::Pool::new(Config::parse(&url).expect(&url));
        let lease = pool.acquire().await;
        assert!(lease.is_ok(), "{password}: {:?}", lease.err());
    }
}

#[tokio::test]
async fn a_password_that_is_missing_is_not_called_wrong() {
    let port = local_postgres::shared().port();
    let said = async |url: String| {
        let pool = db::Pool::new(Config::parse(&url).expect("valid"));
        pool.acquire().await.expect_err(&url).to_string()
    };
    let missing = said(format!("postgres://postgres@127.0.0.1:{port}/postgres")).await;
    assert!(
        missing.contains("no password is given for `postgres`"),
        "{missing}"
    );
    let wrong = said(format!("postgres://postgres:x@127.0.0.1:{port}/postgres")).await;
    assert!(wrong.contains("is not valid"), "{wrong}");
}

/// What stands in a parameter's value is meant as it is.
#[tokio::test]
async fn a_plus_in_a_value_is_a_plus_and_options_are_postgresqls() {
    let shown = async |parameters: &str, setting: &str| -> String {
        let pool = support::pool(parameters);
        let sql = format!("select current_setting('{setting}')");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&pool)
            .await
            .unwrap_or_else(|error| panic!("{parameters}: {error}"))
    };
    for (parameters, setting, value) in [
        (
            "options=-c%20search_path=shop,%5C%20public",
            "search_path",
            "shop, public",
        ),
        (
            "options=-c%20STATEMENT_TIMEOUT%3D60000",
            "statement_timeout",
            "1min",
        ),
        (
            "options=--statement-timeout%3D60s",
            "statement_timeout",
            "1min",
        ),
        (
            "options=-clock_timeout%3D7s%20-c%20lock_timeout%3D8s",
            "lock_timeout",
            "8s",
        ),
        (
            "options=-c%20extra_float_digits%3D0",
            "extra_float_digits",
            "0",
        ),
        ("options=-c%20work_mem%3D9MB", "work_mem", "9MB"),
        ("options=-c%20a.b%3Dx+y", "a.b", "x+y"),
    ] {
        assert_eq!(shown(parameters, setting).await, value, "{parameters}");
    }
    let named = shown("application_name=my+app", "application_name").await;
    assert!(named.starts_with("my+app #"), "{named}");
    let named = shown("options=-c%20application_name%3Dother", "application_name").await;
    assert!(named.starts_with("other #"), "{named}");
}

/// One setting has one place: what `options` sets is what the field, the doctor and a pooler's transactions have.
#[test]
fn a_setting_with_two_ways_in_is_one_setting() {
    let parse = |parameters: &str| Config::parse(&format!("postgres://u@h/d?{parameters}"));
    let config = parse("options=-c%20Statement-Timeout%3D60s").expect("valid");
    assert_eq!(
        config.statement_timeout,
        Some(std::time::Duration::from_secs(60))
    );
    let setting = config
        .settings()
        .into_iter()
        .find(|one| one.key == "statement_timeout");
    assert_eq!(
        setting.map(|one| (one.value, one.from)),
        Some(("1 min".to_owned(), "URL"))
    );
    for (parameters, key) in [
        (
            "statement_timeout=1s&options=-c%20statement_timeout%3D2s",
            "statement_timeout",
        ),
        (
            "lock_timeout=1s&options=--LOCK-TIMEOUT%3D2s",
            "lock_timeout",
        ),
        ("schema=a&options=-c%20search_path%3Db", "schema"),
        (
            "application_name=a&options=-c%20application_name%3Db",
            "application_name",
        ),
        ("ssl=true&sslmode=prefer", "sslmode"),
        ("options=-c%20TimeZone%3DCET", "options"),
        ("options=--DATESTYLE%3DGerman", "options"),
        ("options=-c%20client_encoding%3DLATIN1", "options"),
        ("options=-c%20extra_float_digits%3D9", "options"),
        ("options=-c%20lock_timeout%3Dcanary", "lock_timeout"),
        ("options=endpoint%3Dep-canary", "options"),
        ("options=project%3Dcanary", "options"),
    ] {
        let said = refused(&format!("postgres://u@h/d?{parameters}"));
        assert!(said.contains(&format!("`{key}`")), "{parameters}: {said}");
    }
}

/// Everything that libpq 18 knows, from the list that its own PQconndefaults gives.
const LIBPQ: &str = "service servicefile user password passfile channel_binding connect_timeout dbname host hostaddr port \
    client_encoding options application_name fallback_application_name keepalives keepalives_idle keepalives_interval \
    keepalives_count tcp_user_timeout sslmode sslnegotiation sslcompression sslcert sslkey sslcertmode sslpassword sslrootcert \
    sslcrl sslcrldir sslsni requirepeer require_auth min_protocol_version max_protocol_version ssl_min_protocol_version \
    ssl_max_protocol_version gssencmode krbsrvname gsslib gssdelegation replication target_session_attrs load_balance_hosts \
    scram_client_key scram_server_key sslkeylogfile oauth_issuer oauth_client_id oauth_client_secret oauth_scope ssl requiressl";
const PRISMA: &str = "schema connection_limit pool_timeout connect_timeout socket_timeout max_connection_lifetime \
    max_idle_connection_lifetime statement_cache_size pgbouncer sslmode sslcert sslidentity sslpassword sslaccept host \
    application_name channel_binding options single_use_connections";

#[test]
fn each_parameter_of_libpq_and_prisma_is_known() {
    for key in [LIBPQ, PRISMA]
        .iter()
        .flat_map(|list| list.split_ascii_whitespace())
    {
        let parsed = Config::parse(&format!("postgres://u@h/d?{key}=canary"));
        let unknown = matches!(parsed, Err(ConfigError::UnknownKey { .. }));
        assert!(!unknown, "{key}: {parsed:?}");
    }
    for needless in [
        "gssencmode=prefer",
        "sslnegotiation=postgres",
        "sslsni=1",
        "sslcompression=0",
        "load_balance_hosts=disable",
        "client_encoding=UTF8",
        "replication=false",
        "single_use_connections=false",
        "channel_binding=prefer",
        "channel_binding=disable",
        "max_protocol_version=3.2",
        "TimeZone=UTC",
        "fallback_application_name=shop",
        "ssl=true",
    ] {
        let parsed = Config::parse(&format!("postgres://u@h/d?{needless}"));
        assert!(parsed.is_ok(), "{needless}: {parsed:?}");
    }
}

#[test]
fn the_names_of_other_pools_and_providers_have_a_word() {
    for (parameter, word) in [
        ("max=5", "write `connection_limit`"),
        ("max_connections=5", "write `connection_limit`"),
        ("maxPoolSize=5", "write `connection_limit`"),
        ("pool=5", "write `connection_limit`"),
        ("pool_size=5", "write `connection_limit`"),
        ("pool_max_conns=5", "write `connection_limit`"),
        ("connectionLimit=5", "write `connection_limit`"),
        ("acquire_timeout=5", "write `pool_timeout`"),
        ("connectionTimeoutMillis=5", "write `pool_timeout`"),
        ("poolTimeout=5", "write `pool_timeout`"),
        ("dbName=d", "write `dbname`"),
        ("SSL=true", "write `ssl`"),
        ("SslMode=require", "write `sslmode`"),
        ("idle_timeout=5", "write `max_idle_connection_lifetime`"),
        (
            "idleTimeoutMillis=5",
            "write `max_idle_connection_lifetime`",
        ),
        ("conn_max_age=5", "write `max_connection_lifetime`"),
        ("prepared_statements=false", "remove it"),
        ("default_query_exec_mode=exec", "remove it"),
        ("binary_parameters=yes", "remove it"),
        ("currentSchema=shop", "write `schema`"),
        ("search_path=shop", "write `schema`"),
        ("TimeZone=Europe/Berlin", "at time zone"),
        ("sslmode=no-verify", "`require`"),
        ("uselibpqcompat=true", "remove it"),
        ("ssl=require", "sslmode=require"),
        ("ssl=no-verify", "sslmode"),
        ("ssl=1", "sslmode"),
        ("supa=base-pooler.x", "remove it"),
        ("workaround=supabase-pooler.vercel", "remove it"),
        ("endpoint=ep-x", "remove it"),
        ("keepalives_idle=60", "tcp_keepalives_idle"),
        ("tcp_user_timeout=5", "socket_timeout"),
        ("sslcrl=x", "revoked"),
        ("sslnegotiation=direct", "remove it"),
        ("replication=database", "remove it"),
        ("load_balance_hosts=random", "DATABASE_REPLICA_URLS"),
        ("require_auth=scram-sha-256", "verify-full"),
        ("channel_binding=require", "verify-full"),
        ("gssencmode=require", "verify-full"),
        ("sslidentity=x.p12", "PEM"),
        ("schema=shop,public", "search_path"),
        ("sslsni=0", "always sent"),
        ("client_encoding=LATIN1", "UTF8"),
    ] {
        let said = refused(&format!("postgres://u:canary@h/d?{parameter}"));
        assert!(said.contains(word), "{parameter}: {said}");
        assert!(
            !said.contains("did you mean"),
            "no guess where the table knows the word: {said}"
        );
    }
    // A guess names what is taken, never what is itself refused.
    for (parameter, guess) in [
        ("hots=x", Some("host")),
        ("sslrotcert=x", Some("sslrootcert")),
        ("sslidentty=x", None),
    ] {
        let Err(ConfigError::UnknownKey { nearest, .. }) =
            Config::parse(&format!("postgres://u@h/d?{parameter}"))
        else {
            panic!("{parameter} is no parameter");
        };
        match guess {
            Some(guess) => assert_eq!(nearest.as_deref(), Some(guess), "{parameter}"),
            None => assert_ne!(nearest.as_deref(), Some("sslidentity"), "{parameter}"),
        }
    }
}

/// Nothing that somebody has set is without effect in silence.
#[tokio::test]
async fn what_the_driver_sets_in_the_place_of_the_role_is_said_at_the_start() {
    let server = local_postgres::shared();
    let sql = "create role traveller login password 'p'; alter role traveller set timezone = 'Europe/Berlin'; \
               alter role traveller set work_mem = '9MB'";
    server.sql("postgres", sql).expect("a role");
    let port = server.port();
    let url = format!("postgres://traveller:p@127.0.0.1:{port}/postgres");
    let pool = db::Pool::new(Config::parse(&url).expect("valid"));
    let warnings = pool.examine().await.expect("a report").warnings.join(" ");
    assert!(warnings.contains("TimeZone=Europe/Berlin"), "{warnings}");
    assert!(!warnings.contains("work_mem"), "{warnings}");
}
