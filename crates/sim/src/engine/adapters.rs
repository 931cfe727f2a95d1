//! LoRA adapters in the engine: slots on the device, a cache in the host's memory, and what a load costs.

use std::collections::VecDeque;

/// Where adapters are, most recently used last.
#[derive(Debug)]
pub(crate) struct Adapters {
    slots: usize,
    host_slots: usize,
    device: VecDeque<String>,
    host: VecDeque<String>,
}

impl Adapters {
    /// `slots` on the device, `host_slots` in the host's memory (never fewer).
    pub(crate) fn new(slots: usize, host_slots: usize) -> Self {
        Self { slots, host_slots: host_slots.max(slots), device: VecDeque::new(), host: VecDeque::new() }
    }

    /// Whether `name` can be in the same step as the adapters in `active`.
    pub(crate) fn fits(&self, name: &str, active: &[String]) -> bool {
        active.iter().any(|other| other == name) || active.len() < self.slots
    }

    /// Puts `name` into a slot, out of which none of `active` is pushed. What that takes, in seconds.
    pub(crate) fn activate(&mut self, name: &str, active: &[String], from_disk: f64, from_host: f64) -> f64 {
        let on_device = touch(&mut self.device, name);
        let in_host = touch(&mut self.host, name);
        if self.host.len() > self.host_slots {
            self.host.pop_front();
        }
        if self.device.len() > self.slots
            && let Some(oldest) = self.device.iter().position(|other| other != name && !active.contains(other))
        {
            self.device.remove(oldest);
        }
        match (on_device, in_host) {
            (true, _) => 0.0,
            (false, true) => from_host,
            (false, false) => from_disk,
        }
    }

    /// Forgets an adapter that was unloaded or replaced.
    pub(crate) fn forget(&mut self, name: &str) {
        self.device.retain(|other| other != name);
        self.host.retain(|other| other != name);
    }
}

/// Moves `name` to the end; whether it was there.
fn touch(list: &mut VecDeque<String>, name: &str) -> bool {
    let place = list.iter().position(|other| other == name);
    if let Some(place) = place {
        list.remove(place);
    }
    list.push_back(name.to_owned());
    place.is_some()
}

#[cfg(test)]
mod tests {
    use super::Adapters;

    #[test]
    fn a_load_costs_by_where_the_adapter_is() {
        let mut adapters = Adapters::new(1, 2);
        let none: [String; 0] = [];
        assert_eq!(adapters.activate("a", &none, 1.0, 0.1), 1.0);
        assert_eq!(adapters.activate("a", &none, 1.0, 0.1), 0.0);
        assert_eq!(adapters.activate("b", &none, 1.0, 0.1), 1.0);
        assert_eq!(adapters.activate("a", &none, 1.0, 0.1), 0.1);
        assert!(adapters.fits("a", &["a".into()]) && !adapters.fits("b", &["a".into()]));
        adapters.forget("a");
        assert_eq!(adapters.activate("a", &none, 1.0, 0.1), 1.0);
    }
}
