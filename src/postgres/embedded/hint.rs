//! The one command that installs PostgreSQL's server on this machine.

use std::path::Path;

/// What to type, or a sentence when the platform is unknown.
pub fn install_hint() -> String {
    if cfg!(target_os = "macos") {
        return "brew install postgresql@17".into();
    }
    if cfg!(target_os = "freebsd") {
        return "pkg install postgresql17-server".into();
    }
    let release = std::fs::read_to_string(Path::new("/etc/os-release")).unwrap_or_default();
    from_os_release(&release)
}

/// The command for the distribution that this `/etc/os-release` describes.
fn from_os_release(text: &str) -> String {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\'']).to_ascii_lowercase()
    };
    // A derivative names what it is like; its own name is looked at first.
    for id in format!("{} {}", field("ID"), field("ID_LIKE")).split_whitespace() {
        let command = match id {
            "debian" | "ubuntu" => "apt-get install postgresql",
            "fedora" | "rhel" | "centos" | "amzn" => "dnf install postgresql-server",
            "alpine" => "apk add postgresql",
            "arch" => "pacman -S postgresql",
            "suse" | "opensuse" => "zypper install postgresql-server",
            "nixos" => "nix-shell -p postgresql",
            "gentoo" => "emerge dev-db/postgresql",
            "void" => "xbps-install postgresql",
            _ => continue,
        };
        return command.into();
    }
    "install PostgreSQL's server with your system's package manager".into()
}

#[cfg(test)]
mod tests {
    use super::from_os_release;

    #[test]
    fn derivatives_get_the_command_of_what_they_are_like() {
        assert_eq!(from_os_release("NAME=x\nID=debian\n"), "apt-get install postgresql");
        assert_eq!(from_os_release("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), "apt-get install postgresql");
        assert_eq!(from_os_release("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\""), "dnf install postgresql-server");
        assert_eq!(from_os_release("ID=alpine"), "apk add postgresql");
        assert!(from_os_release("").contains("package manager"));
    }
}
