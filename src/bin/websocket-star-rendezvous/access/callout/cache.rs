//! A cache of answers that are still valid. No I/O, no clock.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use super::answer::{Answer, Key};

/// The number of answers that are kept.
const MOST: usize = 16 * 1024;
/// The number of answers kept about peers of one IPv4 address or IPv6 /64, and of one /48. So an origin that makes up
/// peers without end evicts the answers about others slowly, if at all.
const MOST_OF_64: usize = 256;
const MOST_OF_48: usize = 1024;

/// A unit by which clients are counted: an IPv4 address, or the upper bits of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    V4(Ipv4Addr),
    V6 { bits: u32, upper: u128 },
}

impl Place {
    /// Returns the places that an address is in, each with the number of answers that may be kept about it.
    fn all_of(ip: IpAddr) -> impl Iterator<Item = (Self, usize)> {
        let (inner, outer) = match ip.to_canonical() {
            IpAddr::V4(ip) => ((Self::V4(ip), MOST_OF_64), None),
            IpAddr::V6(ip) => {
                let upper = |bits: u32| {
                    let upper = ip.to_bits() >> (Ipv6Addr::BITS - bits);
                    Self::V6 { bits, upper }
                };
                ((upper(64), MOST_OF_64), Some((upper(48), MOST_OF_48)))
            }
        };
        std::iter::once(inner).chain(outer)
    }
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    since: Instant,
    client: IpAddr,
    number: u64,
}

impl Entry {
    /// Returns the time until which the answer is valid. A refusal with a retry time is valid no longer than that,
    /// because the service is to be asked again when the peer may come again.
    fn until(&self) -> Instant {
        let Answer {
            allow,
            retry_after,
            ttl,
            ..
        } = self.answer;
        let again = retry_after.filter(|_| !allow);
        self.since + again.map_or(ttl, |again| again.min(ttl))
    }

    /// Returns the answer, with the retry time reduced by the time that has passed.
    fn answer(&self, now: Instant) -> Answer {
        let passed = now.saturating_duration_since(self.since);
        let retry_after = self.answer.retry_after;
        Answer {
            retry_after: retry_after.map(|after| after.saturating_sub(passed)),
            ..self.answer.clone()
        }
    }
}

/// Answers by the question that was asked.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
    /// The keys in the order of insertion, for all places together.
    order: BTreeMap<u64, Key>,
    of_place: BTreeMap<Place, BTreeMap<u64, Key>>,
    next: u64,
    round: u64,
}

impl Cache {
    /// Returns the answer to this question, if it is still valid.
    pub fn get(&mut self, key: &Key, now: Instant) -> Option<Answer> {
        let entry = self.entries.get(key)?;
        if entry.until() > now {
            return Some(entry.answer(now));
        }
        self.remove(key);
        None
    }

    /// Returns how often the cache was cleared.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Clears the cache, and makes it ignore the answers to questions that are under way.
    pub fn clear(&mut self) {
        *self = Self {
            round: self.round + 1,
            ..Self::default()
        };
    }

    /// Keeps an answer about a client as long as it is valid, unless the cache was cleared since the question was asked
    /// in `round`.
    pub fn insert(&mut self, key: Key, client: IpAddr, answer: Answer, round: u64, now: Instant) {
        if round != self.round {
            return;
        }
        self.remove(&key);
        let number = self.next;
        let entry = Entry {
            answer,
            since: now,
            client,
            number,
        };
        if entry.until() <= now {
            return;
        }
        self.next += 1;
        self.make_room(client);
        self.order.insert(number, key);
        for (place, _) in Place::all_of(client) {
            let of_place = self.of_place.entry(place).or_default();
            of_place.insert(number, key);
        }
        self.entries.insert(key, entry);
    }

    /// Removes the oldest answer of each place that is full, and the oldest of all if the cache is full.
    fn make_room(&mut self, client: IpAddr) {
        let oldest = |of: &BTreeMap<u64, Key>, most| match of.len() >= most {
            true => of.first_key_value().map(|(_, key)| *key),
            false => None,
        };
        for (place, most) in Place::all_of(client) {
            let of_place = self.of_place.get(&place);
            if let Some(key) = of_place.and_then(|of| oldest(of, most)) {
                self.remove(&key);
            }
        }
        if let Some(key) = oldest(&self.order, MOST) {
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(Entry { client, number, .. }) = self.entries.remove(key) else {
            return;
        };
        self.order.remove(&number);
        for (place, _) in Place::all_of(client) {
            if let Some(of_place) = self.of_place.get_mut(&place) {
                of_place.remove(&number);
                if of_place.is_empty() {
                    self.of_place.remove(&place);
                }
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

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn check(cache: &Cache) {
        assert_eq!(cache.entries.len(), cache.order.len());
        let of = |is_it: fn(&Place) -> bool| -> usize {
            let of_place = cache.of_place.iter().filter(|(place, _)| is_it(place));
            of_place.map(|(_, keys)| keys.len()).sum()
        };
        let inner = of(|place| !matches!(place, Place::V6 { bits: 48, .. }));
        assert_eq!(cache.entries.len(), inner);
        let (v6, outer) = (
            of(|place| matches!(place, Place::V6 { bits: 64, .. })),
            of(|place| matches!(place, Place::V6 { bits: 48, .. })),
        );
        assert_eq!(v6, outer);
    }

    #[test]
    fn both_answers_are_good_for_as_long_as_they_say() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let home = ip("192.0.2.1");
        for (n, allow) in [(1, true), (2, false)] {
            cache.insert(key(n), home, answer(allow, 10), 0, now);
            let later = now + Duration::from_millis(9999);
            assert_eq!(cache.get(&key(n), later), Some(answer(allow, 10)));
            // The latest answer replaces the earlier one.
            cache.insert(key(n), home, answer(!allow, 20), 0, now);
            let later = now + Duration::from_millis(19_999);
            assert_eq!(cache.get(&key(n), later), Some(answer(!allow, 20)));
            assert_eq!(cache.get(&key(n), now + Duration::from_secs(20)), None);
            // An answer without a lifetime is not kept.
            cache.insert(key(n), home, answer(allow, 0), 0, now);
            assert_eq!(cache.get(&key(n), now), None);
        }
        assert!(cache.entries.is_empty());
        check(&cache);
    }

    #[test]
    fn what_is_to_be_waited_for_passes_and_then_it_is_asked_again() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let second = Duration::from_secs(1);
        let later = |seconds| Answer {
            retry_after: Some(second * seconds),
            ..answer(false, 3600)
        };
        let client = ip("2001:db8::1");
        cache.insert(key(1), client, later(100), 0, now);
        assert_eq!(cache.get(&key(1), now), Some(later(100)));
        assert_eq!(cache.get(&key(1), now + second * 99), Some(later(1)));
        assert_eq!(cache.get(&key(1), now + second * 100), None);
        // An answer that lets the peer in is valid for its full lifetime, even if it has a retry time.
        let allowed = Answer {
            allow: true,
            ..later(1)
        };
        cache.insert(key(1), client, allowed, 0, now);
        assert!(cache.get(&key(1), now + second * 3599).is_some());
        check(&cache);
    }

    #[test]
    fn what_is_forgotten_is_not_there_and_neither_is_what_was_asked_before() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let client = ip("2001:db8::1");
        cache.insert(key(1), client, answer(true, 10), 0, now);
        let round = cache.round();
        cache.clear();
        assert_eq!(cache.get(&key(1), now), None);
        cache.insert(key(2), client, answer(true, 10), round, now);
        assert_eq!(cache.get(&key(2), now), None);
        cache.insert(key(2), client, answer(true, 10), cache.round(), now);
        assert!(cache.get(&key(2), now).is_some());
        check(&cache);
    }

    #[test]
    fn a_place_that_makes_up_peers_drives_out_its_own() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.insert(key(0), ip("192.0.2.1"), answer(true, 10), 0, now);
        let last = 100 * MOST_OF_48;
        for n in 1..=last {
            // All of one /48.
            let client = ip(&format!("2001:db8:0:{:x}::1", n % 1000));
            cache.insert(key(n), client, answer(false, 10), 0, now);
        }
        assert_eq!(cache.entries.len(), MOST_OF_48 + 1);
        for kept in [0, last] {
            assert!(cache.get(&key(kept), now).is_some());
        }
        check(&cache);
        for n in 1..=10 * MOST_OF_64 {
            cache.insert(
                key(last + n),
                ip("2001:db8:1::7"),
                answer(false, 10),
                0,
                now,
            );
        }
        assert_eq!(cache.entries.len(), MOST_OF_48 + MOST_OF_64 + 1);
        assert!(cache.get(&key(0), now).is_some());
        check(&cache);
    }

    #[test]
    fn there_are_so_many_and_the_first_to_come_is_the_first_to_go() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for n in 0..MOST + 10 {
            let home = ip(&format!("10.0.{}.{}", (n >> 8) & 0xff, n & 0xff));
            cache.insert(key(n), home, answer(true, 10), 0, now);
        }
        assert_eq!(cache.entries.len(), MOST);
        assert!(cache.get(&key(9), now).is_none());
        assert!(cache.get(&key(10), now).is_some());
        check(&cache);
    }

    #[test]
    fn a_place_is_an_address_or_a_64_and_its_48() {
        let of = |text: &str| Place::all_of(ip(text)).map(|(place, _)| place);
        let [inner, outer] = of("2001:db8::1").collect::<Vec<_>>()[..] else {
            panic!("two")
        };
        assert!(of("2001:db8::ffff:2").eq([inner, outer]));
        assert_eq!(of("2001:db8:0:1::1").last(), Some(outer));
        assert_ne!(of("2001:db8:0:1::1").next(), Some(inner));
        assert_ne!(of("2001:db8:1::1").last(), Some(outer));
        assert!(of("::ffff:192.0.2.1").eq(of("192.0.2.1")));
        assert_eq!(of("192.0.2.1").count(), 1);
        assert!(of("192.0.2.2").ne(of("192.0.2.1")));
    }
}
