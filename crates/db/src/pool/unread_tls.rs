//! TLS with a server whose certificate nobody reads: for the modes that check nothing, where rustls cannot read it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::tls::Tls;
use crate::pool::addresses;

/// Asks the server to speak TLS: the length of this message, and its number in the place of a version.
const REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Opens a stream to the server and agrees on TLS.
pub(crate) async fn open(
    tls: &Tls,
    options: &PgConnectOptions,
) -> Result<TlsStream<TcpStream>, Box<dyn Error + Send + Sync>> {
    let config = config(tls).await?;
    let name = ServerName::try_from(options.get_host().to_owned())?;
    let mut stream = addresses::open(options).await?;
    stream.write_all(&REQUEST).await?;
    if stream.read_u8().await? != b'S' {
        return Err(io::Error::from(io::ErrorKind::Unsupported).into());
    }
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector.connect(name, stream).await?)
}

async fn config(tls: &Tls) -> Result<ClientConfig, Box<dyn Error + Send + Sync>> {
    let provider = Arc::new(ring::default_provider());
    let unread = Arc::new(Unread(provider.clone()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(unread);
    let (Some(certificate), Some(key)) = (tls.file("sslcert"), tls.file("sslkey")) else {
        return Ok(config.with_no_client_auth());
    };
    let certificate = tokio::task::spawn_blocking({
        let path = certificate.to_owned();
        move || std::fs::read(path)
    });
    let key = tokio::task::spawn_blocking({
        let path = key.to_owned();
        move || std::fs::read(path)
    });
    let (certificate, key) = (certificate.await??, key.await??);
    let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>()?;
    Ok(config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?)
}

/// Accepts whatever it is shown.
#[derive(Debug)]
struct Unread(Arc<CryptoProvider>);

impl ServerCertVerifier for Unread {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
