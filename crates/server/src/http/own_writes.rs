//! What a client has written it reads, also where reads go to replicas: how far it has come stands in a cookie.
//!
//! A cookie and not a header, because browsers and all clients with a cookie jar send it back without a line of code. It says
//! nothing but a position in the database's log, and lives as long as a replica may be behind.

use std::time::Duration;

use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

const NAME: &str = "db_position";
/// Where replicas may be behind without limit.
const LONGEST: Duration = Duration::from_secs(3600);

/// How far a client has to see, as its cookie tells.
pub(crate) fn seen(headers: &HeaderMap) -> db::Seen {
    let seen = token(headers).map(db::Seen::of_token);
    seen.unwrap_or_default()
}

/// Gives the client how far it has written.
pub(crate) async fn sign(pool: &db::Pool, seen: &db::Seen, response: &mut Response) {
    if let Some(token) = pool.token(seen).await
        && let Ok(cookie) = HeaderValue::from_str(&cookie(&token, lifetime(pool.config())))
    {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == NAME).then_some(value))
}

fn cookie(token: &str, lifetime: Duration) -> String {
    let seconds = lifetime.as_secs() + 1;
    format!("{NAME}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax")
}

/// A replica that is used shows after this time what is written now.
fn lifetime(config: &db::Config) -> Duration {
    let lags = config
        .replicas
        .iter()
        .map(|replica| replica.replica_max_lag.unwrap_or(LONGEST));
    // It is told twice a second.
    lags.max().unwrap_or(LONGEST) + Duration::from_secs(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("a=1; db_positions=2"));
        headers.append(
            COOKIE,
            HeaderValue::from_static("b=; db_position=16/B374D848;c"),
        );
        assert_eq!(token(&headers), Some("16/B374D848"));
    }
}
