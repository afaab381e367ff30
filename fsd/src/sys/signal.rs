//! Whether somebody else's thread has a signal waiting for it.

/// Whether `thread` has a signal pending that it neither blocks nor ignores. False when there is no such thread.
pub fn pending(thread: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{thread}/status"))
        .is_ok_and(|status| deliverable(&status) != 0)
}

/// The mask of pending signals that will be delivered, from the text of `/proc/PID/status`.
fn deliverable(status: &str) -> u64 {
    let mask = |field: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
            .unwrap_or(0)
    };
    (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk") & !mask("SigIgn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_and_ignored_signals_do_not_count() {
        let status = "Name:\tx\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000007\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000000002\n";
        assert_eq!(deliverable(status), 0x104);
        assert_eq!(deliverable("Name:\tx\n"), 0);
    }

    #[test]
    fn we_have_none() {
        assert!(!pending(std::process::id()));
        assert!(!pending(u32::MAX));
    }
}
