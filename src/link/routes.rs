//! What is known of the addresses of each rendezvous, from one link to the next.

use std::collections::VecDeque;

use super::socket::Routes;
use crate::address::Rendezvous;

/// Of how many rendezvous that is kept. A link that only dials ask for ends with them, perhaps before it was open.
const MAX_KEPT: usize = 64;

/// The routes to the rendezvous to which there is no link at the moment.
#[derive(Debug, Default)]
pub(crate) struct KeptRoutes {
    /// The latest first.
    kept: VecDeque<(Rendezvous, Routes)>,
}

impl KeptRoutes {
    /// For a link that begins.
    pub(in crate::link) fn take(&mut self, rendezvous: &Rendezvous) -> Routes {
        let kept = self.kept.iter().position(|(at, _)| at == rendezvous);
        let kept = kept.and_then(|n| self.kept.remove(n));
        kept.map(|(_, routes)| routes).unwrap_or_default()
    }

    /// From a link that ends.
    pub(in crate::link) fn keep(&mut self, rendezvous: &Rendezvous, routes: Routes) {
        self.kept.retain(|(at, _)| at != rendezvous);
        if routes.have_failed() {
            self.kept.push_front((rendezvous.clone(), routes));
            self.kept.truncate(MAX_KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::address::StarAddr;

    fn rendezvous(number: usize) -> Rendezvous {
        let wire = format!("/dns4/n{number}.example/tcp/443/wss/p2p-websocket-star");
        let addr = StarAddr::from_wire(&wire).expect("valid");
        addr.rendezvous().clone()
    }

    #[test]
    fn an_address_that_failed_goes_last_for_the_next_link_to_the_same_rendezvous_only() {
        let [first, second] = [1, 2].map(|n| SocketAddr::from(([192, 0, 2, n], 443)));
        let mut all = KeptRoutes::default();
        let mut routes = all.take(&rendezvous(1));
        routes.tried(first);
        all.keep(&rendezvous(1), routes);
        let order = |at| all.take(&rendezvous(at)).order(&[first, second]);
        assert_eq!([2, 1].map(order), [[first, second], [second, first]]);
    }

    #[test]
    fn as_many_are_kept_as_may_be_and_only_those_that_say_anything() {
        let addr = SocketAddr::from(([192, 0, 2, 1], 443));
        let mut all = KeptRoutes::default();
        for number in 0..1000 {
            let mut routes = Routes::default();
            routes.tried(addr);
            all.keep(&rendezvous(number), routes);
            let mut good = Routes::default();
            good.good(addr);
            all.keep(&rendezvous(number + 1000), good);
        }
        assert_eq!(all.kept.len(), MAX_KEPT);
        assert!(all.take(&rendezvous(999)).have_failed());
    }
}
