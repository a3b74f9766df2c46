//! Where `DATABASE_URL` comes from: the environment, or a file that it names.

use crate::config::error::ConfigError;

/// The URL as the environment has it now, and the variable by which it has it.
pub(crate) fn url_from_env() -> Result<(String, &'static str), ConfigError> {
    use std::env::{VarError, var, var_os};
    match var("DATABASE_URL") {
        Ok(url) if !url.trim().is_empty() => Ok((url, "DATABASE_URL")),
        Err(VarError::NotUnicode(_)) => Err(ConfigError::url("it is not UTF-8")),
        // An empty one is none, as Compose files pass them on.
        Ok(_) | Err(VarError::NotPresent) => {
            let path = var_os("DATABASE_URL_FILE").filter(|path| !path.is_empty());
            let path = path.ok_or(ConfigError::Missing)?;
            let text = std::fs::read_to_string(path).map_err(|error| {
                ConfigError::url(&format!("DATABASE_URL_FILE cannot be read: {error}"))
            })?;
            Ok((text, "DATABASE_URL_FILE"))
        }
    }
}

/// The URLs of the replicas, as the environment has them: with commas between, each of which is followed by another scheme, because
/// a URL may have commas of its own.
pub(crate) fn replica_urls_from_env() -> Result<Vec<String>, ConfigError> {
    match std::env::var("DATABASE_REPLICA_URLS") {
        Ok(urls) => Ok(split_urls(&urls)),
        Err(std::env::VarError::NotPresent) => Ok(Vec::new()),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(ConfigError::url("it is not UTF-8").of_url("DATABASE_REPLICA_URLS"))
        }
    }
}

fn split_urls(urls: &str) -> Vec<String> {
    let mut split: Vec<String> = Vec::new();
    for piece in urls.split(',') {
        let begins = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| piece.trim_start().starts_with(scheme));
        match split.last_mut() {
            Some(last) if !begins => {
                last.push(',');
                last.push_str(piece);
            }
            _ => split.push(piece.trim().to_owned()),
        }
    }
    if let Some(last) = split.last_mut() {
        *last = last.trim_end_matches(',').trim_end().to_owned();
    }
    split.retain(|url| !url.is_empty());
    split
}

#[cfg(test)]
mod tests {
    use super::split_urls;

    #[test]
    fn a_comma_inside_of_a_url_is_its_own() {
        for (urls, split) in [
            ("", &[][..]),
            (" postgres://a/d ", &["postgres://a/d"]),
            (
                "postgres://a,b/d?x=1,2, postgresql://c/d,",
                &["postgres://a,b/d?x=1,2", "postgresql://c/d"],
            ),
        ] {
            assert_eq!(split_urls(urls), split);
        }
    }
}
