//! The addresses of each rendezvous that have failed, from one link to the next.

use super::{kept::Kept, socket::Routes};
use crate::address::Rendezvous;

/// The routes to rendezvous to which there is no link at the moment. A link that only dials ask for ends with its
/// dials, perhaps before it was open.
#[derive(Debug, Default)]
pub(crate) struct KeptRoutes(Kept<Routes>);

impl KeptRoutes {
    /// Takes the routes for a link that begins.
    pub(in crate::link) fn take(&mut self, rendezvous: &Rendezvous) -> Routes {
        self.0.take(rendezvous).unwrap_or_default()
    }

    /// Keeps the routes of a link that ends, if any address has failed.
    pub(in crate::link) fn keep(&mut self, rendezvous: &Rendezvous, routes: Routes) {
        if routes.have_failed() {
            self.0.put(rendezvous, routes);
        } else {
            self.0.take(rendezvous);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{
        super::{
            connect::Route,
            kept::{MAX_KEPT, tests::rendezvous},
        },
        *,
    };

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
            good.good(Route::Direct(addr));
            all.keep(&rendezvous(number + 1000), good);
        }
        assert_eq!(all.0.len(), MAX_KEPT);
        assert!(all.take(&rendezvous(999)).have_failed());
    }
}
