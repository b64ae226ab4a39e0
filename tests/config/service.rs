//! Virtual servers: what a block means for the kernel's table.

use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, load};
use evervip::model::Service;

fn loaded(text: &str) -> Loaded {
    let host = StaticHost::default().with_all_interfaces();
    load(&MemoryFiles::single("k.conf", text.as_bytes()), &host, &Options::new("k.conf", &host))
}

/// The service of a block with these lines, and the codes of what was reported.
fn service(lines: &str) -> (Service, Vec<&'static str>) {
    let text = format!(
        "virtual_server 10.0.0.1 80 {{\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n{lines}\n \
         real_server 10.0.0.71 80 {{\n }}\n}}\n"
    );
    let mut loaded = loaded(&text);
    let codes = loaded.diagnostics.iter().map(|d| d.code.id).collect();
    (loaded.model.lvs.services.remove(0), codes)
}

#[test]
fn a_granularity_is_a_mask_in_the_order_it_is_read() {
    for (text, mask) in [
        ("255.255.255.0", 0xffff_ff00),
        ("255.0.255.0", 0xff00_ff00),
        ("0.0.0.0", 0),
        // One number is an address, as inet_aton reads it.
        ("24", 24),
    ] {
        let (service, codes) = service(&format!("persistence_granularity {text}"));
        let persistence = service.persistence.expect("a granularity makes it persistent");
        assert_eq!((persistence.granularity, persistence.timeout), (mask, 360), "{text}");
        assert_eq!(codes, Vec::<&str>::new(), "{text}");
    }
}

#[test]
fn a_sorry_server_that_is_a_server_is_inhibited_as_that_one() {
    let sorry = "sorry_server 10.0.0.71 80\n";
    for (lines, inhibit, wanted) in [
        (String::new(), false, [].as_slice()),
        ("sorry_server_inhibit\n".into(), false, &["W0412"]),
        ("inhibit_on_failure\n".into(), true, &["W0412"]),
        ("sorry_server_inhibit\ninhibit_on_failure\n".into(), true, &[]),
    ] {
        let (service, codes) = service(&format!("{sorry}{lines}"));
        assert_eq!(service.sorry_server.map(|sorry| sorry.inhibit), Some(inhibit), "{lines}");
        assert_eq!(codes, wanted, "{lines}");
    }
}
