use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

fn credit(credit: u64) -> Grant {
    Grant {
        credit,
        returned: 0,
    }
}

const ANY: Allowance = Allowance::up_to(u64::MAX);

/// Returns a window whose sender knows credits.
fn known() -> Window {
    let mut window = Window::default();
    window.handle_grant(Grant::FIRST);
    window
}

#[test]
fn an_argument_grants_a_whole_number_and_anything_else_nothing() {
    for (argument, expected) in [
        (r#"{"credit":16384}"#, Some((16_384, 0))),
        (r#"{"credit":0,"returned":7}"#, Some((0, 7))),
        (r#"{"credit":1,"returned":-7,"other":[]}"#, Some((1, 0))),
        (r#"{"credit":18446744073709551615}"#, Some((u64::MAX, 0))),
        (r#"{"credit":18446744073709551616}"#, None),
        (r#"{"credit":-1}"#, None),
        (r#"{"credit":1.5}"#, None),
        (r#"{"credit":1e400}"#, None),
        (r#"{"credit":"1"}"#, None),
        (r#"{"credit":null}"#, None),
        (r#"{"returned":1}"#, None),
        (r#"[{"credit":1}]"#, None),
        ("{", None),
        ("true", None),
        ("", None),
    ] {
        let grant = Grant::decode(argument).map(|grant| (grant.credit, grant.returned));
        assert_eq!(grant, expected, "{argument}");
    }
    let long = format!(r#"{{"credit":1,"other":"{}"}}"#, "x".repeat(300));
    assert_eq!(Grant::decode(&long), None);
    assert_eq!(Grant::decode(&"[".repeat(256)), None);
    for grant in [
        credit(0),
        credit(u64::MAX),
        Grant {
            credit: 1,
            returned: 2,
        },
    ] {
        assert_eq!(Grant::decode(&grant.encode().to_string()), Some(grant));
    }
}

#[test]
fn absurd_credits_add_up_to_no_more_than_there_are_numbers() {
    let mut balance = Balance::default();
    balance.accept(u64::MAX);
    balance.add(u64::MAX);
    balance.spend(1);
    assert_eq!(balance.left(), u64::MAX - 1);
    balance.spend(u64::MAX);
    assert_eq!(balance.left(), 0);
    let mut window = known();
    let absurd = Grant {
        credit: u64::MAX,
        returned: u64::MAX,
    };
    window.handle_grant(absurd);
    window.handle_grant(absurd);
    assert_eq!(window.pledged(), 0);
    assert_eq!(window.handle_item(Instant::now(), 1), Err(Exceeded));
}

#[test]
fn a_sender_may_count_on_the_first_credit_whatever_it_is_told() {
    let mut balance = Balance::default();
    balance.spend(FIRST);
    balance.accept(0);
    assert_eq!(balance.left(), 0);
    balance.add(5);
    assert_eq!(balance.left(), 5);
}

#[test]
fn a_sender_gives_back_what_it_has_not_needed_for_a_while() {
    let mut balance = Balance::default();
    balance.accept(10 * FIRST);
    assert_eq!(balance.give_back(), None, "it was never looked at");
    balance.spend(FIRST);
    // It keeps twice what it has spent, and less when it is idle.
    assert_eq!(balance.give_back(), Some(7 * FIRST));
    assert!(balance.is_idle());
    assert_eq!(balance.give_back(), Some(FIRST));
    assert_eq!(balance.left(), FIRST);
    assert_eq!(balance.give_back(), None);
    balance.add(5 * FIRST);
    balance.spend(3 * FIRST);
    assert!(!balance.is_idle());
    assert_eq!(balance.give_back(), None);
    // A sender that spends only a little keeps no credit for that.
    balance.spend(100);
    assert_eq!(balance.give_back(), Some(2 * FIRST - 100));
}

#[test]
fn who_knows_no_credits_is_neither_held_to_them_nor_granted_any() {
    let (mut window, now) = (Window::default(), Instant::now());
    for _ in 0..100 {
        assert_eq!(window.handle_item(now, 10_000), Ok(()));
        window.handle_read(cost(10_000));
    }
    assert!(!window.is_due());
    assert_eq!(window.poll_grant(now, ANY), None);
    // The peer had to send its own credit before it sent any item.
    window.handle_grant(Grant::FIRST);
    assert_eq!(window.handle_item(now, 0), Err(Exceeded));
}

#[test]
fn who_sends_one_byte_beyond_its_credit_is_found_out() {
    let (mut window, now) = (known(), Instant::now());
    let all = usize::try_from(FIRST - 3 * ITEM_COST).expect("small");
    assert_eq!(window.handle_item(now, all), Ok(()));
    assert_eq!(window.handle_item(now, 0), Ok(()));
    assert_eq!(window.handle_item(now, 1), Err(Exceeded));
    let (mut window, all) = (known(), all + 2 * 128);
    assert_eq!(window.handle_item(now, all), Ok(()));
    assert_eq!(window.handle_item(now, 0), Err(Exceeded));
}

#[test]
fn nothing_is_granted_before_half_of_the_first_credit_is_used() {
    let (mut window, now) = (known(), Instant::now());
    assert_eq!(window.handle_item(now, 8192 - 128 - 1), Ok(()));
    window.handle_read(8191);
    assert!(!window.is_due());
    assert_eq!(window.handle_item(now, 0), Ok(()));
    window.handle_read(1);
    assert!(window.is_due());
    assert_eq!(window.poll_grant(now, ANY), Some(8191 + 128));
    assert!(!window.is_due());
    assert_eq!(window.pledged(), FIRST + 127);
}

#[test]
fn what_is_not_read_may_be_256_kib_and_no_more() {
    let (mut window, now) = (known(), Instant::now());
    let (mut left, mut sent) = (FIRST, 0);
    while left >= cost(1000) {
        assert_eq!(window.handle_item(now, 1000), Ok(()));
        left -= cost(1000);
        sent += cost(1000);
        left += window.poll_grant(now, ANY).unwrap_or(0);
    }
    assert!((UNREAD - 5000..=UNREAD).contains(&sent), "{sent}");
    assert_eq!(window.handle_item(now, 5000), Err(Exceeded));
}

/// Two peers that write a lot before they read must not wait for each other for ever.
#[test]
fn whatever_the_window_is_192_kib_need_not_be_read() {
    for seconds in 1..20 {
        let mut path = Path::new(us(100), 1_000_000_000);
        path.reader = 10_000_000 << (seconds % 10);
        path.run(Duration::from_secs(1));
        while !(path.items.is_empty() && path.unread.is_empty() && path.grants.is_empty()) {
            path.next();
        }
        let (mut sent, size) = (0, path.window.size);
        loop {
            let left = path.balance.left().saturating_sub(ITEM_COST).min(1000);
            let len = usize::try_from(left).expect("small");
            if path.balance.left() < 2048 {
                break;
            }
            path.balance.spend(cost(len));
            assert_eq!(path.window.handle_item(path.now, len), Ok(()));
            sent += cost(len);
            if let Some(credit) = path.window.poll_grant(path.now, ANY) {
                path.balance.add(credit);
            }
        }
        assert!(
            sent >= UNREAD / 4 * 3 - 2048,
            "{sent} with a window of {size}"
        );
    }
}

#[test]
fn who_keeps_credit_is_told_from_who_uses_it() {
    let (mut window, now) = (known(), Instant::now());
    assert_eq!(window.kept(), None, "the first credit is everybody's");
    assert_eq!(window.handle_item(now, 9000), Ok(()));
    assert!(window.poll_grant(now, ANY).is_some());
    window.handle_read(cost(9000));
    assert!(
        window.poll_grant(now, ANY).is_some_and(|credit| credit > 0) || window.kept().is_none()
    );
    let mut path = Path::new(us(1000), 1_000_000_000);
    path.run(Duration::from_secs(1));
    path.run_idle(Duration::from_secs(1));
    let kept = path.window.kept();
    assert_eq!(kept, Some(path.window.received));
    let returned = path.balance.left() - FIRST;
    path.window.handle_grant(Grant {
        credit: 0,
        returned,
    });
    assert_eq!(path.window.kept(), None);
    // A sender that does not know credits has none to keep.
    assert_eq!(Window::default().kept(), None);
}

#[test]
fn a_round_trip_of_more_than_a_pause_is_none() {
    let mut path = Path::new(us(1_300_000), 1_000_000);
    path.run(Duration::from_secs(60));
    path.run(Duration::from_secs(60));
    assert!(path.delivered >= 50_000_000, "{}", path.delivered);
}

#[test]
fn what_is_returned_is_not_granted_again_before_it_is_needed() {
    let mut path = Path::new(us(1000), 1_000_000_000);
    path.run(Duration::from_secs(1));
    assert!(path.window.pledged() > 4 * FIRST);
    path.run_idle(Duration::from_secs(1));
    path.balance.give_back();
    let returned = path.balance.give_back().expect("it was idle");
    path.window.handle_grant(Grant {
        credit: 0,
        returned,
    });
    assert_eq!(path.window.pledged(), FIRST);
    assert!(!path.window.is_due());
    assert_eq!(path.window.handle_item(path.now, 20_000), Err(Exceeded));
}

#[test]
fn a_ceiling_that_falls_stops_grants_until_enough_is_read() {
    let mut path = Path::new(us(1000), 1_000_000_000);
    path.run(Duration::from_secs(1));
    let pledged = path.window.pledged();
    path.allowance = Allowance::up_to(2 * FIRST);
    path.run(Duration::from_millis(100));
    assert!(path.window.pledged() <= 2 * FIRST, "{pledged}");
    assert!(path.delivered > 0);
}

/// Two peers and the data between them: items, over a line with a limited rate, and grants.
struct Path {
    now: Instant,
    balance: Balance,
    window: Window,
    /// The one-way delay.
    delay: Duration,
    /// The rate of the line, in bytes per second.
    rate: u64,
    /// The time at which the line is free again.
    free: Instant,
    items: VecDeque<(Instant, usize)>,
    grants: VecDeque<(Instant, u64)>,
    allowance: Allowance,
    /// The rate of the reader, in bytes per second.
    reader: u64,
    unread: VecDeque<(Instant, usize)>,
    read_until: Instant,
    delivered: u64,
}

impl Path {
    fn new(round_trip: Duration, rate: u64) -> Self {
        let now = Instant::now();
        let mut balance = Balance::default();
        balance.accept(FIRST);
        Self {
            now,
            balance,
            window: known(),
            delay: round_trip / 2,
            rate,
            free: now,
            items: VecDeque::new(),
            grants: VecDeque::new(),
            allowance: ANY,
            reader: u64::MAX,
            unread: VecDeque::new(),
            read_until: now,
            delivered: 0,
        }
    }

    fn takes(bytes: usize, rate: u64) -> Duration {
        Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate.max(1))
    }

    /// Runs for this time with a sender that always has something to send.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.delivered = 0;
        loop {
            self.send();
            self.next();
            if self.now >= end {
                return;
            }
        }
    }

    /// Runs for at least this time with a sender that has nothing to send.
    fn run_idle(&mut self, time: Duration) {
        let end = self.now + time;
        while !(self.items.is_empty() && self.unread.is_empty() && self.grants.is_empty()) {
            self.next();
        }
        self.now = self.now.max(end);
    }

    fn send(&mut self) {
        loop {
            let most = self.balance.left().saturating_sub(ITEM_COST).min(64 * 1024);
            if most < 2048 {
                return;
            }
            let len = usize::try_from(most).expect("small");
            self.balance.spend(cost(len));
            self.free = self.free.max(self.now) + Self::takes(len, self.rate);
            self.items.push_back((self.free + self.delay, len));
        }
    }

    /// Handles the next event.
    fn next(&mut self) {
        let at = |queue: &VecDeque<(Instant, usize)>| queue.front().map(|(at, _)| *at);
        let grant = self.grants.front().map(|(at, _)| *at);
        let next = [at(&self.items), at(&self.unread), grant];
        self.now = next.into_iter().flatten().min().expect("it goes on");
        if at(&self.items) == Some(self.now) {
            let (_, len) = self.items.pop_front().expect("there is one");
            assert_eq!(self.window.handle_item(self.now, len), Ok(()));
            self.grant();
            self.read_until = self.read_until.max(self.now) + Self::takes(len, self.reader);
            self.unread.push_back((self.read_until, len));
        } else if at(&self.unread) == Some(self.now) {
            let (_, len) = self.unread.pop_front().expect("there is one");
            self.window.handle_read(cost(len));
            self.delivered += len as u64;
            self.grant();
        } else {
            let (_, credit) = self.grants.pop_front().expect("there is one");
            self.balance.add(credit);
        }
    }

    fn grant(&mut self) {
        if let Some(credit) = self.window.poll_grant(self.now, self.allowance) {
            self.grants.push_back((self.now + self.delay, credit));
        }
    }

    /// Returns the number of bytes that the line carries in a round trip.
    fn product(&self) -> u64 {
        scale(self.rate, 2 * self.delay, Duration::from_secs(1))
    }
}

#[test]
fn a_long_line_is_filled_and_its_queue_stays_short_for_ever() {
    // 200 Mbit/s and 100 ms; 20 Mbit/s and 30 ms; 240 Mbit/s and 200 ms.
    for (round_trip, rate) in [
        (100_000, 25_000_000),
        (30_000, 2_500_000),
        (200_000, 30_000_000),
    ] {
        let mut path = Path::new(us(round_trip), rate);
        path.run(Duration::from_secs(5));
        for _ in 0..10 {
            path.run(Duration::from_secs(20));
            let used = path.delivered * 100 / (rate * 20);
            assert!(used >= 93, "{used} % of {rate} B/s");
            let pledged = path.window.pledged();
            // The items have 64 KiB, and a round trip is measured only to the precision of one item.
            let most = path.product() * 2 + 2 * 64 * 1024;
            assert!(pledged <= most, "{pledged} at {rate} B/s");
        }
    }
}

/// 200 Mbit/s and 5 ms, without other connections on the link. The share of 512 KiB would take 20 ms.
#[test]
fn the_queue_of_a_short_line_is_as_short_as_that_of_a_long_one() {
    let mut path = Path::new(us(5000), 25_000_000);
    path.allowance.in_use = 512 * 1024;
    path.run(Duration::from_secs(5));
    for _ in 0..5 {
        path.run(Duration::from_secs(20));
        assert!(path.delivered >= 24_000_000 * 20, "{}", path.delivered);
        let pledged = path.window.pledged();
        assert!(pledged <= path.product() * 2 + 2 * 64 * 1024, "{pledged}");
    }
}

/// 800 Mbit/s and a minimum round trip of half a millisecond. The programs on the way, above all the processes of a
/// browser, have to wait for a processor now and then.
#[test]
fn the_window_of_a_fast_line_is_5_ms_of_it_whatever_the_least_round_trip_is() {
    let mut path = Path::new(us(500), 100_000_000);
    path.allowance.in_use = 512 * 1024;
    path.run(Duration::from_secs(5));
    for _ in 0..5 {
        path.run(Duration::from_secs(1));
        let pledged = path.window.pledged();
        assert!((400_000..=560_000).contains(&pledged), "{pledged}");
    }
}

#[test]
fn steps_grow_with_the_window_and_are_at_most_a_quarter_of_it_or_half_of_the_first_credit() {
    let mut window = known();
    let mut last = 0;
    for size in (FIRST..16 * 1024 * 1024).step_by(1024) {
        window.size = size;
        let step = window.step();
        assert!(
            step >= last && step <= (size / 4).max(FIRST / 2),
            "{size}: {step}"
        );
        // A sender that waits for more is granted it, both when all is read and when nothing is read.
        let more = (size / 4 + WAITING).max(FIRST);
        assert!(
            size - WAITING >= step && more - WAITING >= step,
            "{size}: {step}"
        );
        last = step;
    }
}

#[test]
fn a_window_follows_a_round_trip_that_becomes_longer_and_shorter_again() {
    let mut path = Path::new(us(20_000), 25_000_000);
    path.run(Duration::from_secs(5));
    path.delay *= 5;
    path.run(Duration::from_secs(120));
    path.run(Duration::from_secs(20));
    assert!(path.delivered >= 25_000_000 * 19, "{}", path.delivered);
    path.delay /= 10;
    path.run(Duration::from_secs(120));
    let pledged = path.window.pledged();
    assert!(pledged <= path.product() * 2 + 64 * 1024, "{pledged}");
}

#[test]
fn a_window_shrinks_with_the_rate() {
    let mut path = Path::new(us(50_000), 25_000_000);
    path.run(Duration::from_secs(5));
    assert!(path.window.pledged() > 1_000_000);
    path.reader = 1_000_000;
    path.run(Duration::from_secs(30));
    // 75 KB for one and a half round trips, one item, and the size of one grant.
    let pledged = path.window.pledged();
    assert!(pledged <= 200_000, "{pledged}");
    path.reader = u64::MAX;
    path.run(Duration::from_secs(5));
    path.run(Duration::from_secs(5));
    assert!(path.delivered >= 120_000_000, "{}", path.delivered);
}

#[test]
fn a_short_line_has_a_window_of_a_fraction_of_a_millisecond() {
    let mut path = Path::new(us(60), 1_000_000_000);
    path.run(Duration::from_secs(1));
    let pledged = path.window.pledged();
    assert!((300_000..=650_000).contains(&pledged), "{pledged}");
    assert!(path.delivered >= 950_000_000, "{}", path.delivered);
}

#[test]
fn an_idle_stream_begins_anew_and_is_soon_as_fast_as_before() {
    let mut path = Path::new(us(50_000), 25_000_000);
    path.run(Duration::from_secs(5));
    path.run_idle(Duration::from_secs(10));
    path.run(Duration::from_secs(2));
    path.run(Duration::from_secs(5));
    assert!(path.delivered >= 24_000_000 * 5, "{}", path.delivered);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// In every order of items, reads, grants and returns, and with anything in flight, an honest sender never exceeds
    /// its credit, and never more is pledged than the highest ceiling.
    #[test]
    fn an_honest_sender_is_within_its_credit_whatever_happens(
        steps in proptest::collection::vec((0u8..7, any::<u16>()), 1..400),
    ) {
        let (mut balance, mut window) = (Balance::default(), Window::default());
        let (mut now, mut highest) = (Instant::now(), FIRST);
        let (mut items, mut grants, mut returns) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        let (mut unread, mut is_accepted) = (VecDeque::new(), false);
        grants.push_back(FIRST);
        returns.push_back(0);
        for (step, amount) in steps {
            let amount = u64::from(amount);
            now += us(amount);
            match step {
                0 | 1 => {
                    let len = (amount * 4).min(balance.left().saturating_sub(ITEM_COST));
                    if is_accepted && balance.left() >= ITEM_COST {
                        balance.spend(len + ITEM_COST);
                        items.push_back(usize::try_from(len).expect("small"));
                    }
                }
                2 => if let Some(len) = items.pop_front() {
                    prop_assert_eq!(window.handle_item(now, len), Ok(()));
                    unread.push_back(cost(len));
                },
                3 => if let Some(cost) = unread.pop_front() {
                    window.handle_read(cost);
                },
                4 => {
                    let ceiling = amount * 32;
                    highest = highest.max(ceiling);
                    grants.extend(window.poll_grant(now, Allowance::up_to(ceiling)));
                    prop_assert!(window.pledged() <= highest);
                }
                5 => match grants.pop_front() {
                    Some(credit) if is_accepted => balance.add(credit),
                    Some(credit) => {
                        balance.accept(credit);
                        is_accepted = true;
                    }
                    None => {}
                },
                _ if amount % 2 == 0 => returns.extend(balance.give_back()),
                _ => if let Some(returned) = returns.pop_front() {
                    window.handle_grant(Grant { credit: 0, returned });
                },
            }
        }
    }
}
