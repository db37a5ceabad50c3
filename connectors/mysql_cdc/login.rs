//! Logging in: the server's greeting, TLS, and passwords.

use num_bigint::BigUint;
use pointsman_schemas::Problem;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

use super::refusal::Failure;
use super::take::Take;
use super::wire::{Address, Connection, END, ERROR, OK, refused};

/// What a client and a server can (`CLIENT_…` in the protocol's documentation).
const LONG_PASSWORD: u32 = 0x1;
const LONG_FLAG: u32 = 0x4;
const PROTOCOL_41: u32 = 0x200;
const TLS: u32 = 0x800;
const TRANSACTIONS: u32 = 0x2000;
const SECURE_CONNECTION: u32 = 0x8000;
const PLUGIN_AUTH: u32 = 0x8_0000;

/// What we can. `MULTI_RESULTS`, `DEPRECATE_EOF` and what is newer change answers that are read
/// here.
const OURS: u32 =
    LONG_PASSWORD | LONG_FLAG | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;

/// `utf8mb4_general_ci`, which both servers have.
const COLLATION: u8 = 45;

/// How long a packet may be that we take.
const PACKET_BYTES_MAX: u32 = 1 << 30;

/// How many bytes passwords are mixed with.
const SALT_BYTES: usize = 20;

/// What a server says that speaks for itself, in the middle of a login.
const MORE: u8 = 1;

/// What MariaDB writes in front of its version, for clients that are older than it is.
const OLD_PREFIX: &str = "5.5.5-";

/// What a server says first.
struct Greeting {
    version: String,
    capabilities: u32,
    salt: Vec<u8>,
    plugin: String,
}

/// How passwords are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plugin {
    /// `mysql_native_password`.
    Native,
    /// `caching_sha2_password`.
    CachingSha2,
    /// `sha256_password`.
    Sha256,
    /// `mysql_clear_password`: PAM and LDAP.
    Clear,
}

impl Plugin {
    fn read(name: &str) -> Option<Self> {
        Some(match name {
            "mysql_native_password" | "" => Self::Native,
            "caching_sha2_password" => Self::CachingSha2,
            "sha256_password" => Self::Sha256,
            "mysql_clear_password" => Self::Clear,
            _ => return None,
        })
    }
}

/// Logs in over a connection that says nothing yet.
///
/// # Errors
/// Why the server does not let us in.
pub(super) async fn log_in(
    address: &Address,
    mut connection: Connection,
) -> Result<Connection, Failure> {
    let packet = connection.packet().await?;
    if packet.first() == Some(&ERROR) {
        return Err(refused(&packet));
    }
    let greeting = Greeting::read(&packet)
        .ok_or_else(|| address.unreachable("what answers there is not MySQL or MariaDB"))?;
    connection.version.clone_from(&greeting.version);
    let is_secure = address.0.tls.is_some();
    let mut capabilities = OURS;
    if let Some(tls) = &address.0.tls {
        if greeting.capabilities & TLS == 0 {
            let message = format!("the server at {} does not speak TLS", address.0.host);
            let help = "write ssl-mode=disabled, or have the server speak TLS";
            return Err(Failure::Broken(Problem::new(message).help(help).at("url")));
        }
        capabilities |= TLS;
        connection.send(&begin(capabilities)).await?;
        connection = address.secure(connection, tls.clone()).await?;
    }
    // Of a way that is not known another one is asked for.
    let plugin = Plugin::read(&greeting.plugin).unwrap_or(Plugin::Native);
    let login = Login {
        address,
        is_secure,
        salt: greeting.salt,
    };
    let mut response = begin(capabilities);
    response.extend_from_slice(address.0.user.as_bytes());
    response.push(0);
    let first = login.first(plugin);
    response.push(u8::try_from(first.len()).unwrap_or_default());
    response.extend_from_slice(&first);
    response.extend_from_slice(plugin.name().as_bytes());
    response.push(0);
    connection.send(&response).await?;
    login.answer(&mut connection, plugin).await?;
    Ok(connection)
}

/// What a login and a request for TLS begin with.
fn begin(capabilities: u32) -> Vec<u8> {
    let mut response = Vec::with_capacity(128);
    response.extend_from_slice(&capabilities.to_le_bytes());
    response.extend_from_slice(&PACKET_BYTES_MAX.to_le_bytes());
    response.push(COLLATION);
    response.extend_from_slice(&[0; 23]);
    response
}

impl Greeting {
    fn read(packet: &[u8]) -> Option<Self> {
        let mut left = Take(packet);
        if left.u8().ok()? != 10 {
            return None;
        }
        let version = String::from_utf8_lossy(left.until_zero()).into_owned();
        let _connection = left.u32().ok()?;
        let mut salt = left.bytes(8).ok()?.to_vec();
        left.bytes(1).ok()?;
        let low = left.u16().ok()?;
        left.bytes(3).ok()?;
        let high = left.u16().ok()?;
        let salt_bytes = usize::from(left.u8().ok()?).max(SALT_BYTES + 1);
        left.bytes(10).ok()?;
        let more = left.bytes((salt_bytes - 8).min(left.0.len())).ok()?;
        salt.extend_from_slice(more);
        salt.truncate(SALT_BYTES);
        Some(Self {
            version: version.trim_start_matches(OLD_PREFIX).to_owned(),
            capabilities: u32::from(high) << 16 | u32::from(low),
            salt,
            plugin: String::from_utf8_lossy(left.until_zero()).into_owned(),
        })
    }
}

impl Plugin {
    fn name(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
            Self::Sha256 => "sha256_password",
            Self::Clear => "mysql_clear_password",
        }
    }
}

/// A login that goes on.
struct Login<'l> {
    address: &'l Address,
    is_secure: bool,
    salt: Vec<u8>,
}

impl Login<'_> {
    fn password(&self) -> &[u8] {
        self.address
            .0
            .password
            .as_deref()
            .unwrap_or_default()
            .as_bytes()
    }

    /// What is said first of the password.
    fn first(&self, plugin: Plugin) -> Vec<u8> {
        match plugin {
            _ if self.password().is_empty() => Vec::new(),
            Plugin::Native => native(self.password(), &self.salt),
            Plugin::CachingSha2 => caching_sha2(self.password(), &self.salt),
            // Over TLS alone, and only once it is asked for.
            Plugin::Sha256 | Plugin::Clear => Vec::new(),
        }
    }

    /// Answers until the server lets us in.
    async fn answer(mut self, connection: &mut Connection, plugin: Plugin) -> Result<(), Failure> {
        let mut plugin = plugin;
        loop {
            let packet = connection.packet().await?;
            match packet.split_first() {
                Some((&OK, _)) => return Ok(()),
                Some((&ERROR, _)) => return Err(refused(&packet)),
                Some((&END, switch)) => {
                    plugin = self.switch(switch)?;
                    let answer = match plugin {
                        Plugin::Sha256 | Plugin::Clear => self.clear(plugin)?,
                        Plugin::Native | Plugin::CachingSha2 => self.first(plugin),
                    };
                    connection.send(&answer).await?;
                }
                Some((&MORE, more)) if plugin == Plugin::CachingSha2 => match more {
                    // The server knows the password, and says next that it lets us in.
                    [3] => {}
                    [4] if self.is_secure => connection.send(&self.clear(plugin)?).await?,
                    [4] => connection.send(&[2]).await?,
                    key => connection.send(&self.sealed(key)?).await?,
                },
                _ => return Err(self.unknown("one that is not known here")),
            }
        }
    }

    /// The way of telling passwords that the server asks for.
    fn switch(&mut self, packet: &[u8]) -> Result<Plugin, Failure> {
        let mut left = Take(packet);
        let name = String::from_utf8_lossy(left.until_zero()).into_owned();
        self.salt = left.rest().to_vec();
        self.salt.truncate(SALT_BYTES);
        Plugin::read(&name).ok_or_else(|| self.unknown(&name))
    }

    /// The password as it is, for which the connection has to be secure.
    fn clear(&self, plugin: Plugin) -> Result<Vec<u8>, Failure> {
        if !self.is_secure {
            let message = format!(
                "the server at {} asks for a password in clear ({})",
                self.address.0.host,
                plugin.name()
            );
            let help = "write ?ssl-mode=required behind the URL";
            return Err(Failure::Broken(Problem::new(message).help(help).at("url")));
        }
        let mut password = self.password().to_vec();
        password.push(0);
        Ok(password)
    }

    /// The password for the eyes of who has the key to this one.
    fn sealed(&self, pem: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut password = self.password().to_vec();
        password.push(0);
        for (byte, salt) in password.iter_mut().zip(self.salt.iter().cycle()) {
            *byte ^= salt;
        }
        seal(&password, pem, &rand::random())
            .ok_or_else(|| self.unknown("a key that cannot be read"))
    }

    fn unknown(&self, what: &str) -> Failure {
        let message = format!(
            "the server at {} asks for a login that is not known here ({what})",
            self.address.0.host
        );
        let help = "have the user log in by caching_sha2_password or mysql_native_password: \
                    ALTER USER … IDENTIFIED WITH …";
        Failure::Broken(Problem::new(message).help(help).at("username"))
    }
}

fn xor(left: &[u8], right: &[u8]) -> Vec<u8> {
    left.iter().zip(right).map(|(a, b)| a ^ b).collect()
}

fn native(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let once = Sha1::digest(password);
    let salted = Sha1::new()
        .chain_update(salt)
        .chain_update(Sha1::digest(once));
    xor(&once, &salted.finalize())
}

fn caching_sha2(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let once = Sha256::digest(password);
    let salted = Sha256::new()
        .chain_update(Sha256::digest(once))
        .chain_update(salt);
    xor(&once, &salted.finalize())
}

/// Encrypts for a public key in PEM by RSAES-OAEP with SHA-1 (RFC 8017, section 7.1.1), which is
/// what MySQL decrypts.
fn seal(message: &[u8], pem: &[u8], seed: &[u8; 20]) -> Option<Vec<u8>> {
    let pem = Pem::iter_from_buffer(pem).next()?.ok()?;
    let (_, key) = SubjectPublicKeyInfo::from_der(&pem.contents).ok()?;
    let PublicKey::RSA(key) = key.parsed().ok()? else {
        return None;
    };
    let modulus = BigUint::from_bytes_be(key.modulus);
    let bytes = usize::try_from(modulus.bits().div_ceil(8)).ok()?;
    // Beside the message stand a zero, the seed, a hash and a one.
    let padding = bytes.checked_sub(message.len() + 2 * seed.len() + 2)?;
    let mut block = Sha1::digest(b"").to_vec();
    block.resize(block.len() + padding, 0);
    block.push(1);
    block.extend_from_slice(message);
    let block = xor(&block, &mask(seed, block.len()));
    let seed = xor(seed, &mask(&block, seed.len()));
    let whole = BigUint::from_bytes_be(&[seed, block].concat());
    let sealed = whole.modpow(&BigUint::from_bytes_be(key.exponent), &modulus);
    let sealed = sealed.to_bytes_be();
    let mut out = vec![0; bytes.checked_sub(sealed.len())?];
    out.extend_from_slice(&sealed);
    Some(out)
}

/// The mask generation function MGF1 with SHA-1 (RFC 8017, section B.2.1).
fn mask(seed: &[u8], bytes: usize) -> Vec<u8> {
    let mut mask = Vec::with_capacity(bytes + 20);
    for count in 0_u32.. {
        if mask.len() >= bytes {
            break;
        }
        let block = Sha1::new()
            .chain_update(seed)
            .chain_update(count.to_be_bytes());
        mask.extend_from_slice(&block.finalize());
    }
    mask.truncate(bytes);
    mask
}
