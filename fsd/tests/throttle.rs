//! EFS's throughput modes: the ledger's exactness, its bounds, and the figures of the EFS user guide.

use fsd::meter::{metered_thirds, Class, Meter};
use fsd::throttle::{
    baseline, burst, credit_cap, Ledger, Mode, Nanos, OperationsLimit, Pace, Performance, Throttle,
};
use fsd::throttle::{client_limit, GIB, INITIAL_CREDITS, MIB, TIB};
use proptest::prelude::*;

const SECOND: Nanos = 1_000_000_000;
const HOUR: Nanos = 3600 * SECOND;

fn bursting(standard_bytes: u64, credit_bytes: i64) -> Throttle {
    let ledger = Ledger {
        credit_bytes,
        credit_fraction: 0,
        at: 0,
    };
    Throttle::restore(
        Mode::Bursting,
        Performance::MaxIo,
        standard_bytes,
        ledger,
        0,
    )
}

/// Operations one after the other, each started when the one before was answered; bytes moved in `span`.
fn drive(throttle: &mut Throttle, class: Class, size: u64, span: Nanos) -> u64 {
    let (mut now, mut moved) = (0, 0);
    loop {
        now += throttle.charge(class, size, now);
        if now >= span {
            return moved;
        }
        moved += size;
    }
}

fn close_to(found: u64, expected: u64, percent: u64) {
    assert!(
        found.abs_diff(expected) * 100 <= expected * percent,
        "{found} is not within {percent} % of {expected}"
    );
}

#[test]
fn rates_follow_the_user_guide_table() {
    // File system size in GiB, baseline and burst in MiB/s.
    for (size, base, burst_rate) in [
        (256, 12.5, 100.0),
        (512, 25.0, 100.0),
        (1024, 50.0, 100.0),
        (2048, 100.0, 200.0),
        (4096, 200.0, 400.0),
    ] {
        assert_eq!(
            baseline(size * GIB) as f64 / MIB as f64,
            base,
            "baseline of {size} GiB"
        );
        assert_eq!(
            burst(size * GIB) as f64 / MIB as f64,
            burst_rate,
            "burst of {size} GiB"
        );
    }
    assert_eq!(baseline(0), MIB);
    assert_eq!(credit_cap(GIB), INITIAL_CREDITS);
    assert_eq!(credit_cap(3 * TIB), 3 * INITIAL_CREDITS);
}

#[test]
fn a_new_file_system_bursts_and_pays_with_credits() {
    let mut throttle = Throttle::new(Mode::Bursting, Performance::GeneralPurpose, 0);
    assert_eq!(throttle.credit_balance(0), INITIAL_CREDITS);
    let moved = drive(&mut throttle, Class::Write, MIB, 10 * SECOND);
    close_to(moved, 1000 * MIB, 2);
    let spent = INITIAL_CREDITS - throttle.credit_balance(10 * SECOND);
    // What was earned meanwhile, at the baseline of 1 MiB/s, comes off what was written.
    close_to(spent, moved - 10 * MIB, 1);
}

#[test]
fn without_credits_a_file_system_runs_at_its_baseline_and_reads_count_a_third() {
    for (class, expected) in [(Class::Write, 5 * MIB), (Class::Read, 15 * MIB)] {
        let mut throttle = bursting(100 * GIB, 0);
        assert_eq!(throttle.permitted_throughput(0), Some(baseline(100 * GIB)));
        close_to(
            drive(&mut throttle, class, 64 * 1024, 100 * SECOND) / 100,
            expected * 4_882 / 5_000,
            3,
        );
    }
}

#[test]
fn an_hour_of_rest_earns_an_hour_of_baseline() {
    let mut throttle = bursting(1024 * GIB, 0);
    assert_eq!(throttle.credit_balance(HOUR), 3600 * 50 * MIB);
    assert_eq!(throttle.permitted_throughput(HOUR), Some(100 * MIB));
}

#[test]
fn provisioned_is_the_larger_of_what_is_provisioned_and_the_baseline() {
    let provisioned = Mode::Provisioned {
        bytes_per_second: 10 * MIB,
    };
    let mut throttle = bursting(0, 0);
    throttle.set_mode(provisioned, 0);
    close_to(
        drive(&mut throttle, Class::Write, MIB, 20 * SECOND),
        200 * MIB,
        2,
    );
    throttle.set_standard_bytes(TIB, 20 * SECOND);
    assert_eq!(throttle.permitted_throughput(20 * SECOND), Some(50 * MIB));
}

#[test]
fn elastic_neither_waits_nor_touches_the_credits() {
    let mut throttle = bursting(TIB, 1000);
    throttle.set_mode(Mode::Elastic, 0);
    assert_eq!(throttle.charge(Class::Write, TIB, HOUR), 0);
    assert_eq!(throttle.permitted_throughput(HOUR), None);
    throttle.set_mode(Mode::Bursting, HOUR);
    assert_eq!(throttle.credit_balance(HOUR), 1000);
}

#[test]
fn switching_to_elastic_frees_the_next_operation_at_once() {
    let mut throttle = bursting(0, 0);
    assert!(throttle.charge(Class::Write, 10 * MIB, 0) > 9 * SECOND);
    throttle.set_mode(Mode::Elastic, 0);
    assert_eq!(throttle.charge(Class::Write, 10 * MIB, 0), 0);
}

#[test]
fn general_purpose_limits_operations_and_tells_the_share_in_use() {
    let limit = OperationsLimit::of(Performance::GeneralPurpose, Mode::Bursting).expect("a limit");
    assert_eq!((limit.reads, limit.writes), (35_000, 7_000));
    let mut throttle = Throttle::new(Mode::Bursting, Performance::GeneralPurpose, 0);
    // Half of the writes and a quarter of the reads that fit into a second: three quarters.
    for n in 0..3_500 {
        throttle.charge(Class::MetadataWrite, 0, n * 1000);
    }
    for n in 0..8_750 {
        throttle.charge(Class::MetadataRead, 0, SECOND / 2 + n * 1000);
    }
    let percent = throttle.percent_io_limit(SECOND).expect("a limit");
    assert!((percent - 75.0).abs() < 0.1, "{percent}");
    assert_eq!(throttle.percent_io_limit(3 * SECOND), Some(0.0));
    let mut unlimited = Throttle::new(Mode::Bursting, Performance::MaxIo, 0);
    assert_eq!(unlimited.percent_io_limit(0), None);
}

#[test]
fn the_operations_limit_holds_over_ten_seconds() {
    let mut throttle = Throttle::new(Mode::Elastic, Performance::GeneralPurpose, 0);
    let (mut now, mut operations) = (0, 0);
    while now < 10 * SECOND {
        now += throttle.charge(Class::MetadataWrite, 0, now);
        operations += 1;
    }
    close_to(operations, 500_000, 2);
    assert_eq!(throttle.percent_io_limit(10 * SECOND), Some(100.0));
}

#[test]
fn a_connection_has_a_limit_of_its_own() {
    assert_eq!(
        (client_limit(Mode::Bursting), client_limit(Mode::Elastic)),
        (500 * MIB, 1500 * MIB)
    );
    let mut pace = Pace::default();
    assert_eq!(
        pace.charge(Pace::span(3 * 500 * MIB, client_limit(Mode::Bursting)), 0),
        SECOND * 9 / 10
    );
}

#[test]
fn a_meter_counts_by_class_with_samples() {
    let meter = Meter::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| meter.record(Class::Read, 12_288)));
        }
    });
    meter.record(Class::Write, 100);
    meter.record(Class::MetadataRead, 0);
    meter.record(Class::MetadataWrite, 0);
    let reading = meter.read();
    assert_eq!(
        (reading.read.bytes, reading.read.operations),
        (4000 * 12_288, 4000)
    );
    assert_eq!((reading.write.bytes, reading.write.operations), (100, 1));
    assert_eq!(
        (reading.metadata().bytes, reading.metadata().operations),
        (8192, 2)
    );
    assert_eq!(reading.metered_bytes, 4000 * 4096 + 3 * 4096);
    assert_eq!(reading.total().operations, 4003);
    let json = serde_json::to_string(&reading).expect("serialises");
    assert_eq!(
        serde_json::from_str::<fsd::meter::Reading>(&json).expect("parses"),
        reading
    );
}

fn classes() -> impl Strategy<Value = Class> {
    prop::sample::select(Class::ALL.to_vec())
}

proptest! {
    #[test]
    fn it_does_not_matter_in_how_many_steps_time_passes(size in 0..5 * TIB, credits in -(MIB as i64)..INITIAL_CREDITS as i64, steps in prop::collection::vec(0..HOUR, 1..20)) {
        let total: Nanos = steps.iter().sum();
        let mut at_once = bursting(size, credits);
        let mut stepwise = bursting(size, credits);
        let mut now = 0;
        for step in steps {
            now += step;
            stepwise.credit_balance(now);
        }
        prop_assert_eq!(at_once.ledger(total), stepwise.ledger(total));
    }

    #[test]
    fn a_restart_changes_nothing(size in 0..5 * TIB, history in prop::collection::vec((classes(), 0..100 * MIB, 0..10 * SECOND), 1..30), cut in 0..30usize) {
        let mut lived = Throttle::new(Mode::Bursting, Performance::MaxIo, 0);
        lived.set_standard_bytes(size, 0);
        let mut restarted = lived.clone();
        let mut now = 0;
        for (n, (class, bytes, pause)) in history.into_iter().enumerate() {
            if n == cut {
                let ledger = serde_json::to_string(&restarted.ledger(now)).expect("serialises");
                let ledger = serde_json::from_str(&ledger).expect("parses");
                now += pause;
                restarted = Throttle::restore(Mode::Bursting, Performance::MaxIo, size, ledger, now);
            }
            lived.charge(class, bytes, now);
            restarted.charge(class, bytes, now);
            prop_assert_eq!(lived.ledger(now), restarted.ledger(now));
            now += pause;
        }
    }

    #[test]
    fn the_balance_stays_under_its_cap_and_is_what_was_earned_less_what_was_spent(size in 0..5 * TIB, history in prop::collection::vec((classes(), 0..1000 * MIB, 0..100 * SECOND), 1..40)) {
        let start = INITIAL_CREDITS as i64 / 2;
        let mut throttle = bursting(size, start);
        let (mut now, mut thirds) = (0u64, 0i128);
        for (class, bytes, pause) in history {
            throttle.charge(class, bytes, now);
            thirds += i128::from(metered_thirds(class, bytes));
            now += pause;
        }
        let ledger = throttle.ledger(now);
        prop_assert!(ledger.credit_bytes <= credit_cap(size) as i64);
        let earned = 3 * i128::from(baseline(size)) * i128::from(now);
        let expected = i128::from(start) * 3 * i128::from(SECOND) + earned - thirds * i128::from(SECOND);
        let found = i128::from(ledger.credit_bytes) * 3 * i128::from(SECOND) + i128::from(ledger.credit_fraction);
        prop_assert_eq!(found, expected.min(i128::from(credit_cap(size)) * 3 * i128::from(SECOND)));
    }

    /// Whoever asks, and however many at once: what is answered within any time stays within what is permitted.
    #[test]
    fn nobody_gets_more_than_is_permitted(
        size in 0..4 * TIB,
        credits in 0..4 * GIB as i64,
        provisioned in prop::option::of(MIB..200 * MIB),
        arrivals in prop::collection::vec((classes(), 0..8 * MIB, 0..SECOND / 4), 1..80),
    ) {
        let mut throttle = bursting(size, credits);
        if let Some(bytes_per_second) = provisioned {
            throttle.set_mode(Mode::Provisioned { bytes_per_second }, 0);
        }
        let mut answers: Vec<(Nanos, u64)> = Vec::new();
        let mut now = 0;
        for (class, bytes, pause) in arrivals {
            now += pause;
            answers.push((now + throttle.charge(class, bytes, now), metered_thirds(class, bytes)));
        }
        answers.sort_unstable();
        let rate = provisioned.map_or(burst(size), |rate| rate.max(baseline(size)));
        let mut thirds = 0u128;
        for (at, cost) in answers {
            thirds += u128::from(cost);
            // A tenth of a second may be taken in advance.
            let permitted = 3 * u128::from(rate) * u128::from(at + SECOND / 10) / u128::from(SECOND);
            prop_assert!(thirds <= permitted + 3, "{thirds} thirds by {at} ns, {permitted} permitted");
            if provisioned.is_none() {
                let funded = 3 * (credits as u128) + 3 * u128::from(baseline(size)) * u128::from(at) / u128::from(SECOND);
                prop_assert!(thirds <= funded + 3, "{thirds} thirds by {at} ns, {funded} funded");
            }
        }
    }
}
