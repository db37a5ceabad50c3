//! Mail, sent by SMTP (RFC 5321).
//!
//! ```yaml
//! targets:
//!   billing:
//!     smtp:
//!       server: smtp.example.com        # port 587 with STARTTLS; encryption: implicit, none
//!       auth: { username: bus, password: { env: SMTP_PASSWORD } }
//!       from: "Orders <orders@example.com>"
//!       to: ["billing@example.com", "<$.data.customer.email>"]
//!       subject: "order <$.data.id> is paid"
//!       body: "<$.data.total> were paid."
//! ```
//!
//! **A target** sends one message for each delivery, to all its recipients or to none. Its
//! `Message-ID` is made of the delivery's id, so that it is the same at every attempt. Connections
//! are kept. See `sender.rs` for what an answer means.
//!
//! **No event writes a header**: addresses are read as such, each text for one alone, and a control
//! character in an address or a subject is a mistake.

mod client;
mod letter;
mod sender;
mod settings;
mod starttls;
mod target;
#[cfg(test)]
mod tests;

pub use target::SmtpTarget;
