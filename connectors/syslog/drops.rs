//! What the kernel has dropped of a socket's datagrams, since nobody read them in time.

use std::fs;

use rustix::fs::fstat;
use tokio::net::UdpSocket;

/// The tables of Linux that say so (proc_net(5)).
const TABLES: [&str; 2] = ["/proc/net/udp", "/proc/net/udp6"];

/// How many it has dropped since the socket was opened; none where the system does not tell.
pub(super) fn dropped(socket: &UdpSocket) -> Option<u64> {
    let inode = fstat(socket).ok()?.st_ino.to_string();
    // They are in memory: reading them waits for no disk.
    let mut tables = TABLES
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    tables.find_map(|table| of_socket(&table, &inode))
}

fn of_socket(table: &str, inode: &str) -> Option<u64> {
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        (fields.nth(9)? == inode).then(|| fields.nth(2)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_inode() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
             \x20 431: 0100007F:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12345 2 0000000000000000 0\n\
             \x20 500: 0100007F:0203 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12346 2 0000000000000000 77\n";
        assert_eq!(of_socket(table, "12346"), Some(77));
        assert_eq!(of_socket(table, "12345"), Some(0));
        assert_eq!(of_socket(table, "1234"), None);
    }
}
