//! Answers that are still good. No IO, no clock.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Instant,
};

use super::answer::{Answer, Key};

/// How many answers are kept.
const MOST: usize = 16 * 1024;
/// How many of them at most are about peers of one origin: so one that makes up peers without end drives out the answers
/// about others slowly, if at all.
const MOST_OF_ORIGIN: usize = 256;

/// What counts as one place: an IPv4 address, or an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(u128);

impl From<IpAddr> for Origin {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            // No /64 of the Internet is like one of these.
            IpAddr::V4(ip) => Self((u128::from(ip.to_bits()) << 1) | 1),
            IpAddr::V6(ip) => Self((ip.to_bits() >> 64) << 64),
        }
    }
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    until: Instant,
    origin: Origin,
    number: u64,
}

/// Answers by what was asked.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
    /// In the order of coming, of all and of each origin.
    order: BTreeMap<u64, Key>,
    of_origin: BTreeMap<Origin, BTreeMap<u64, Key>>,
    next: u64,
}

impl Cache {
    /// The answer to what is asked, if it is still good.
    pub fn get(&mut self, key: &Key, now: Instant) -> Option<Answer> {
        let entry = self.entries.get(key)?;
        if entry.until > now {
            return Some(entry.answer.clone());
        }
        self.remove(key);
        None
    }

    /// Keeps an answer as long as it is good.
    pub fn insert(&mut self, key: Key, origin: Origin, answer: Answer, now: Instant) {
        self.remove(&key);
        if answer.ttl.is_zero() {
            return;
        }
        if let Some(own) = self.of_origin.get(&origin)
            && own.len() >= MOST_OF_ORIGIN
            && let Some((_, oldest)) = own.first_key_value()
        {
            let oldest = *oldest;
            self.remove(&oldest);
        }
        if self.entries.len() >= MOST
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            let oldest = *oldest;
            self.remove(&oldest);
        }
        let number = self.next;
        self.next += 1;
        self.order.insert(number, key);
        self.of_origin
            .entry(origin)
            .or_default()
            .insert(number, key);
        let entry = Entry {
            until: now + answer.ttl,
            answer,
            origin,
            number,
        };
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &Key) {
        let Some(Entry { origin, number, .. }) = self.entries.remove(key) else {
            return;
        };
        self.order.remove(&number);
        if let Some(own) = self.of_origin.get_mut(&origin) {
            own.remove(&number);
            if own.is_empty() {
                self.of_origin.remove(&origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(number: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    fn answer(allow: bool, seconds: u64) -> Answer {
        Answer {
            allow,
            reason: "".into(),
            retry_after: None,
            ttl: Duration::from_secs(seconds),
        }
    }

    fn origin(text: &str) -> Origin {
        text.parse::<IpAddr>().expect("an address").into()
    }

    fn check(cache: &Cache) {
        assert_eq!(cache.entries.len(), cache.order.len());
        let of_origins: usize = cache.of_origin.values().map(BTreeMap::len).sum();
        assert_eq!(cache.entries.len(), of_origins);
    }

    #[test]
    fn both_answers_are_good_for_as_long_as_they_say() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let home = origin("192.0.2.1");
        for (n, allow) in [(1, true), (2, false)] {
            cache.insert(key(n), home, answer(allow, 10), now);
            let later = now + Duration::from_millis(9999);
            assert_eq!(cache.get(&key(n), later), Some(answer(allow, 10)));
            // The latest counts.
            cache.insert(key(n), home, answer(!allow, 20), now);
            let later = now + Duration::from_millis(19_999);
            assert_eq!(cache.get(&key(n), later), Some(answer(!allow, 20)));
            assert_eq!(cache.get(&key(n), now + Duration::from_secs(20)), None);
            // One that says nothing is not kept.
            cache.insert(key(n), home, answer(allow, 0), now);
            assert_eq!(cache.get(&key(n), now), None);
        }
        assert!(cache.entries.is_empty());
        check(&cache);
    }

    #[test]
    fn an_origin_that_makes_up_peers_drives_out_its_own() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let (home, far) = (origin("192.0.2.1"), origin("2001:db8::1"));
        cache.insert(key(0), home, answer(true, 10), now);
        for n in 1..=10 * MOST_OF_ORIGIN {
            cache.insert(key(n), far, answer(false, 10), now);
        }
        assert_eq!(cache.entries.len(), MOST_OF_ORIGIN + 1);
        assert!(cache.get(&key(0), now).is_some());
        assert!(cache.get(&key(10 * MOST_OF_ORIGIN), now).is_some());
        check(&cache);
    }

    #[test]
    fn there_are_so_many_and_the_first_to_come_is_the_first_to_go() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for n in 0..MOST + 10 {
            let home = origin(&format!("10.0.{}.{}", (n >> 8) & 0xff, n & 0xff));
            cache.insert(key(n), home, answer(true, 10), now);
        }
        assert_eq!(cache.entries.len(), MOST);
        assert!(cache.get(&key(9), now).is_none());
        assert!(cache.get(&key(10), now).is_some());
        check(&cache);
    }

    #[test]
    fn an_origin_is_an_address_or_a_64() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.2"), origin("192.0.2.1"));
        assert_ne!(origin("0.0.0.0"), origin("::"));
    }
}
