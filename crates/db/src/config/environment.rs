//! Where `DATABASE_URL` comes from: the environment, or a file that it names.

use crate::config::parameters::ConfigError;

/// The URL as the environment has it now.
pub(crate) fn url_from_env() -> Result<String, ConfigError> {
    use std::env::{VarError, var, var_os};
    match var("DATABASE_URL") {
        Ok(url) => Ok(url),
        Err(VarError::NotUnicode(_)) => Err(ConfigError::url("it is not UTF-8")),
        Err(VarError::NotPresent) => {
            let path = var_os("DATABASE_URL_FILE").ok_or(ConfigError::Missing)?;
            std::fs::read_to_string(path).map_err(|error| {
                ConfigError::url(&format!("DATABASE_URL_FILE cannot be read: {error}"))
            })
        }
    }
}
