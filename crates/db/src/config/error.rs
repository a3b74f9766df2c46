//! What can be wrong with `DATABASE_URL`, said without a value of it.

/// Why `DATABASE_URL` cannot be used. Contains keys and kinds, never values.
///
/// ```
/// let error = db::Config::parse("mysql://db.example/shop").expect_err("not PostgreSQL");
/// assert!(error.to_string().contains("postgres://"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The variable is not set.
    #[error(
        "DATABASE_URL is not set: write DATABASE_URL=postgres://user:password@host:5432/database into the environment or .env"
    )]
    Missing,
    /// The URL itself cannot be read.
    #[error(
        "DATABASE_URL is not a valid URL: {problem}; expected postgres://user:password@host:5432/database?connection_limit=10"
    )]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// Another URL of the environment is wrong, as `DATABASE_URL` would be.
    #[error("{}", .error.to_string().replace("DATABASE_URL", .variable))]
    Other {
        /// `DATABASE_REPLICA_URLS` or `DIRECT_URL`.
        variable: &'static str,
        /// What would be said of `DATABASE_URL`.
        error: Box<Self>,
    },
    /// A parameter that does not exist.
    #[error("DATABASE_URL has an unknown parameter `{key}`{}", suggest(.nearest.as_deref()))]
    UnknownKey {
        /// The parameter as written.
        key: String,
        /// The known parameter nearest to it, if one is near.
        nearest: Option<String>,
    },
    /// A parameter whose value is not of its kind.
    #[error("DATABASE_URL has a bad value for `{key}`: it must be {expected}")]
    Value {
        /// The parameter.
        key: String,
        /// What its value has to be.
        expected: String,
    },
    /// A parameter of another pool, of libpq or of a provider that is not taken here.
    #[error("DATABASE_URL has the parameter `{key}`, which is not taken: {instead}")]
    Refused {
        /// The parameter as written.
        key: String,
        /// What to do about it.
        instead: String,
    },
    /// One of libpq's variables, which counts where the URL has no such parameter, is wrong as that would be.
    #[error("{}", said_of_variable(.name, .error))]
    Variable {
        /// The variable.
        name: &'static str,
        /// What would be said of the parameter.
        error: Box<Self>,
    },
}

impl ConfigError {
    /// The same about a URL that another variable has.
    pub(crate) fn of_url(self, variable: &'static str) -> Self {
        Self::Other {
            variable,
            error: Box::new(self),
        }
    }

    pub(crate) fn url(problem: &str) -> Self {
        Self::Url {
            problem: problem.to_owned(),
        }
    }

    pub(crate) fn value(key: &str, expected: &str) -> Self {
        Self::Value {
            key: key.to_owned(),
            expected: expected.to_owned(),
        }
    }

    pub(crate) fn refused(key: &str, instead: &str) -> Self {
        Self::Refused {
            // Whatever it is, it is no place for a long text.
            key: key.chars().take(64).collect(),
            instead: instead.to_owned(),
        }
    }

    /// The same about a variable that stands for the parameter.
    pub(crate) fn of_variable(self, name: &'static str) -> Self {
        Self::Variable {
            name,
            error: Box::new(self),
        }
    }

    /// The parameter that is wrong, if it is one.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::UnknownKey { key, .. } | Self::Value { key, .. } | Self::Refused { key, .. } => {
                Some(key)
            }
            Self::Missing | Self::Url { .. } | Self::Other { .. } | Self::Variable { .. } => None,
        }
    }
}

fn said_of_variable(name: &str, error: &ConfigError) -> String {
    let what = match error {
        ConfigError::Value { expected, .. } => format!("has a bad value: it must be {expected}"),
        ConfigError::Refused { instead, .. } => format!("is not taken: {instead}"),
        other => other.to_string(),
    };
    format!("the variable {name} {what} (libpq's variables count where DATABASE_URL says nothing)")
}

fn suggest(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| {
        format!("; did you mean `{nearest}`?")
    })
}
