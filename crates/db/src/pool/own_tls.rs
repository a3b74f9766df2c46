//! TLS of our own, for what sqlx's does not do: a certificate that nobody reads, for the modes that check nothing, and one that is
//! held against the authorities of one file alone, where the name does not count.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::tls::Tls;
use crate::pool::addresses;

/// Asks the server to speak TLS: the length of this message, and its number in the place of a version.
const REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What is looked at.
#[derive(Clone, Copy)]
pub(crate) enum Check<'a> {
    Nothing,
    /// Whether one of the authorities in this file has signed the certificate.
    Authority(&'a str),
}

/// Opens a stream to the server and agrees on TLS.
pub(crate) async fn open(
    tls: &Tls,
    check: Check<'_>,
    options: &PgConnectOptions,
) -> Result<TlsStream<TcpStream>, Box<dyn Error + Send + Sync>> {
    let config = config(tls, check).await?;
    let name = ServerName::try_from(options.get_host().to_owned())?;
    let mut stream = addresses::open(options).await?;
    stream.write_all(&REQUEST).await?;
    if stream.read_u8().await? != b'S' {
        return Err(io::Error::from(io::ErrorKind::Unsupported).into());
    }
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector.connect(name, stream).await?)
}

async fn config(tls: &Tls, check: Check<'_>) -> Result<ClientConfig, Box<dyn Error + Send + Sync>> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match check {
        Check::Nothing => Arc::new(Unread(provider.clone())),
        Check::Authority(file) => Arc::new(Signed::by(file, provider.clone()).await?),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let (Some(certificate), Some(key)) = (tls.file("sslcert"), tls.file("sslkey")) else {
        return Ok(config.with_no_client_auth());
    };
    let (certificate, key) = (read(certificate).await?, read(key).await?);
    let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>()?;
    Ok(config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?)
}

async fn read(path: &str) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path));
    read.await.map_err(io::Error::other)?
}

/// Accepts what an authority of the file has signed, for whatever name.
#[derive(Debug)]
struct Signed(Arc<WebPkiServerVerifier>);

impl Signed {
    async fn by(
        file: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let (text, mut authorities) = (read(file).await?, RootCertStore::empty());
        for certificate in CertificateDer::pem_slice_iter(&text) {
            authorities.add(certificate?)?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider);
        Ok(Self(verifier.build()?))
    }
}

impl ServerCertVerifier for Signed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is looked at last.
        match self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(rustls::Error::InvalidCertificate(
                NotValidForName | NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
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
