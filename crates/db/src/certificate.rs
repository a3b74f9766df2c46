//! What is wrong with a server's certificate, in words, and the command that makes a good one.

/// What the certificate lacks for whoever checks it, if that is what an attempt to connect to this host failed for.
#[cfg(feature = "tls")]
pub(crate) fn fault(error: &sqlx::Error, host: &str) -> Option<String> {
    use rustls::CertificateError as Of;
    let rustls::Error::InvalidCertificate(why) = of_rustls(error)? else {
        return None;
    };
    let what = match why {
        Of::Expired | Of::ExpiredContext { .. } => "has expired",
        Of::NotValidYet | Of::NotValidYetContext { .. } => {
            "is not valid yet; look at the clocks of both machines, too"
        }
        Of::UnknownIssuer => {
            return Some(
                "is not signed by an authority that is trusted here: name the file of the one that did sign it in sslrootcert"
                    .to_owned(),
            );
        }
        Of::NotValidForName | Of::NotValidForNameContext { .. } => {
            "is for another name, or names none in subjectAltName (CN alone does not count)"
        }
        Of::BadSignature => "is not signed by the authority that it names",
        Of::InvalidPurpose | Of::InvalidPurposeContext { .. } => "is not meant for a server",
        Of::UnhandledCriticalExtension => "has an extension that has to be understood, and is not",
        Of::UnsupportedSignatureAlgorithmContext { .. }
        | Of::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is signed in a way that is too old or unknown, such as with SHA-1"
        }
        Of::Revoked => "has been revoked",
        // webpki's own word is in there, and the crate's type is not.
        Of::Other(other) => match format!("{other:?}") {
            name if name.contains("UnsupportedCertVersion") => {
                "is of X.509 version 1, in which it cannot say what it is for: rustls reads version 3"
            }
            name if name.contains("CaUsedAsEndEntity") => {
                "is one of an authority (CA:TRUE), which must not be a server's own"
            }
            _ => "is not one that rustls takes",
        },
        _ => "cannot be used",
    };
    Some(format!(
        "{what}; have its authority make another one, or make one of its own: {}",
        command(host)
    ))
}

#[cfg(not(feature = "tls"))]
pub(crate) fn fault(_error: &sqlx::Error, _host: &str) -> Option<String> {
    None
}

/// What rustls said, which sqlx passes on as invalid data.
#[cfg(feature = "tls")]
pub(crate) fn of_rustls(error: &sqlx::Error) -> Option<&rustls::Error> {
    match error {
        sqlx::Error::Io(error) => error.get_ref()?.downcast_ref(),
        sqlx::Error::Tls(error) => error.downcast_ref(),
        _ => None,
    }
}

/// Makes a certificate that every mode takes, where `sslrootcert` names it.
#[cfg(feature = "tls")]
fn command(host: &str) -> String {
    let kind = match host.parse::<std::net::IpAddr>() {
        Ok(_) => "IP",
        Err(_) => "DNS",
    };
    format!(
        "`openssl req -new -x509 -days 3650 -nodes -keyout server.key -out server.crt -subj /CN={host} -addext \
         subjectAltName={kind}:{host} -addext basicConstraints=critical,CA:FALSE` makes a good one"
    )
}
