//! Mails on changes of state: their form, as a real SMTP server receives them, and that no server, however bad, delays
//! anything.

use std::io::{Read, Write};

use crate::lab::node::Node;
use crate::lab::service::{Server, mail};
use crate::lab::{LIMIT, Lab, Res};
use crate::scenario::{FAILOVER, Pair, steady, within};
use crate::{cases, check};

cases![Here:
    each_change_of_state_is_mailed,
    a_server_that_never_answers_delays_nothing,
    a_server_that_refuses_delays_nothing,
    a_server_that_is_not_there_delays_nothing,
];

const VIP: &str = "10.0.0.100";

fn each_change_of_state_is_mailed(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    mail(&pair.svr1)?;
    let texts = FAILOVER.map(|text| within(text, "vrrp_instance VRRP1 {", "smtp_alert"));
    pair.start(&lab.subject, [&texts[0], &texts[1]])?;
    lab.always().address(&pair.svr1, VIP, true)?;
    let owning = "=> VRRP Instance is now owning VRRP VIPs <=";
    let losing = "=> VRRP Instance is no longer owning VRRP VIPs <=";
    let instance = "[svr1] VRRP Instance VRRP1";
    mailed(lab, &pair.svr1, &format!("{instance} - Entering BACKUP state"), losing)?;
    mailed(lab, &pair.svr1, &format!("{instance} - Entering MASTER state"), owning)?;
    pair.cables[0].cut()?;
    mailed(lab, &pair.svr1, &format!("{instance} - Entering FAULT state"), losing)
}

/// Waits for the mail of svr1 with this subject and checks all of it.
pub fn mailed(lab: &Lab, node: &Node, subject: &str, body: &str) -> Res {
    let subject = format!("Subject: {subject}");
    let what = format!("the mail `{subject}`");
    let mail = lab.timeline().poll(LIMIT, &what, || {
        Ok(mails(lab, node).into_iter().find(|mail| mail.contains(&subject)))
    })?;
    let field = |name: &str| mail.iter().position(|line| line.starts_with(name));
    let order = [
        "Date: ",
        "From: svr1@mydomain.com",
        "Subject: ",
        "X-Mailer: Keepalived",
        "To: root@mydomain.com",
    ]
    .map(field);
    check!(order.iter().all(Option::is_some), "{mail:#?}");
    check!(order.is_sorted(), "fields in another order: {mail:#?}");
    let empty = mail.iter().position(String::is_empty);
    check!(empty > order[4], "no empty line after the header: {mail:#?}");
    check!(mail.iter().any(|line| line == body), "{mail:#?}");
    Ok(())
}

/// The mails that the server of a node has received so far, as lines.
fn mails(lab: &Lab, node: &Node) -> Vec<Vec<String>> {
    let mut mails = Vec::new();
    let mut mail = Vec::new();
    for line in lab.always().said(node, "smtp") {
        if line.contains("MESSAGE FOLLOWS") {
            mail.clear();
        } else if line.contains("END MESSAGE") {
            mails.push(std::mem::take(&mut mail));
        } else {
            mail.push(line);
        }
    }
    mails
}

fn a_server_that_never_answers_delays_nothing(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let _server = Server::start(&pair.svr1, "127.0.0.1:25", |mut stream, _| {
        // Until the other side gives up.
        let _ = stream.set_read_timeout(None);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    })?;
    undelayed(lab, &pair)
}

fn a_server_that_refuses_delays_nothing(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let _server = Server::start(&pair.svr1, "127.0.0.1:25", |mut stream, _| {
        let _ = stream.write_all(b"554 no mail is taken here\r\n");
        let _ = stream.read(&mut [0; 512]);
    })?;
    undelayed(lab, &pair)?;
    given_up(lab, &pair)
}

fn a_server_that_is_not_there_delays_nothing(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    undelayed(lab, &pair)?;
    given_up(lab, &pair)
}

/// Elections, announcements and adverts are on time while mails cannot be sent.
fn undelayed(lab: &mut Lab, pair: &Pair) -> Res {
    let texts = FAILOVER.map(|text| within(text, "vrrp_instance VRRP1 {", "smtp_alert"));
    pair.start(&lab.subject, [&texts[0], &texts[1]])?;
    let begun = lab.mark();
    lab.after(begun).some_garps(&pair.svr1, VIP.parse()?, 10)?;
    steady(lab, begun, &pair.svr1, 6)?;
    let mark = lab.mark();
    pair.cables[0].cut()?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "(VRRP1) Entering FAULT STATE")?;
    later.address(&pair.svr1, VIP, false)?;
    later.address(&pair.svr2, VIP, true)?;
    let mark = lab.mark();
    pair.cables[0].mend()?;
    let later = lab.after(mark);
    later.address(&pair.svr1, VIP, true)?;
    later.address(&pair.svr2, VIP, false)?;
    // The event of the address may be recorded before the earlier advert; the silence of the cut does not count.
    later.some_adverts(&pair.svr1, 1)?;
    steady(lab, lab.mark(), &pair.svr1, 3)
}

/// In the end one line reports that a mail was not sent.
fn given_up(lab: &Lab, pair: &Pair) -> Res {
    lab.subject.ours_only("it makes one attempt only")?;
    let limit = LIMIT.saturating_mul(5);
    let (_, line) = lab.always().within(limit).log(&pair.svr1, "given up")?;
    check!(line.contains("VRRP1") && line.contains("BACKUP"), "{line}");
    Ok(())
}

/// Mails about servers of a virtual server: in a kernel with IPVS.
pub mod guest {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use nix::sys::signal::Signal;

    use crate::lab::daemon::CONF;
    use crate::lab::node::Node;
    use crate::lab::service::Server;
    use crate::lab::timeline::{Wall, What};
    use crate::lab::{LIMIT, Lab, Res};
    use crate::{cases, check};

    cases![Ipvs:
        the_quorum_is_mailed_before_a_flood_of_dead_servers,
        a_stop_does_not_wait_for_a_server_that_takes_nothing,
    ];

    /// Number of real servers that die at once.
    const FARM: u16 = 400;

    /// A virtual server whose quorum is half of this many real servers; each is an address of the machine itself.
    fn farm(count: u16) -> String {
        let servers: String = (0..count)
            .map(|n| {
                let address = format!("10.3.{}.{}", n / 200, n % 200 + 1);
                format!(
                    "real_server {address} 80 {{\nTCP_CHECK {{\nconnect_timeout 5\nretry 0\n}}\n}}\n"
                )
            })
            .collect();
        format!(
            "global_defs {{\nnotification_email {{\nroot@mydomain.com\n}}\n\
             notification_email_from svr1@mydomain.com\nsmtp_server 127.0.0.1\nsmtp_connect_timeout 5\n\
             router_id svr1\nsmtp_alert\n}}\n\
             virtual_server 10.1.0.1 80 {{\ndelay_loop 3\nquorum {}\nlvs_sched rr\nlvs_method NAT\n\
             protocol TCP\n{servers}}}\n",
            count / 2
        )
    }

    fn director(lab: &mut Lab, count: u16) -> Res<Node> {
        let node = lab.node("svr1")?;
        node.ip("link set lo up\naddr add 10.3.0.1/16 dev lo\n")?;
        node.write(CONF, &farm(count), 0o644)?;
        Ok(node)
    }

    /// A mail server that is slow for each mail; accepted mails are added to the timeline as lines of "smtp".
    fn slow(node: &Node, pause: Duration) -> Res<Server> {
        let (name, timeline) = (Arc::clone(&node.name), Arc::clone(node.timeline()));
        let says = move |line: &str| {
            let what = What::Log { source: "smtp".into(), line: line.to_owned() };
            timeline.push(Wall::now(), &name, what);
        };
        Server::start(node, "127.0.0.1:25", move |stream: TcpStream, _: SocketAddr| {
            let Ok(mut answers) = stream.try_clone() else { return };
            let mut answer = |text: &str| answers.write_all(text.as_bytes()).is_ok();
            let mut in_mail = Vec::new();
            let mut is_mail = false;
            answer("220 ready\r\n");
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                let good = match line.as_str() {
                    "." if is_mail => {
                        is_mail = false;
                        thread::sleep(pause);
                        // In one piece: several mails come at a time.
                        let mut whole = vec!["MESSAGE FOLLOWS".to_owned()];
                        whole.append(&mut in_mail);
                        whole.push("END MESSAGE".to_owned());
                        says(&whole.join("\n"));
                        answer("250 taken\r\n")
                    }
                    _ if is_mail => {
                        in_mail.push(line);
                        true
                    }
                    "DATA" => {
                        is_mail = true;
                        answer("354 go on\r\n")
                    }
                    "QUIT" => {
                        answer("221 bye\r\n");
                        return;
                    }
                    _ => answer("250 ok\r\n"),
                };
                if !good {
                    return;
                }
            }
        })
    }

    /// Subjects and bodies of the mails in the order in which they were accepted.
    fn taken(lab: &Lab, node: &Node) -> Vec<(String, Vec<String>)> {
        let whole = lab.always().said(node, "smtp");
        whole
            .iter()
            .map(|mail| {
                let lines: Vec<String> = mail.lines().map(str::to_owned).collect();
                let subject = lines.iter().find_map(|line| line.strip_prefix("Subject: "));
                (subject.unwrap_or_default().to_owned(), lines)
            })
            .collect()
    }

    fn the_quorum_is_mailed_before_a_flood_of_dead_servers(lab: &mut Lab) -> Res {
        lab.subject.ours_only("it loses mails of a flood")?;
        let node = director(lab, FARM)?;
        let web = Server::start(&node, "0.0.0.0:80", |_, _| {})?;
        let _mail = slow(&node, Duration::from_millis(300))?;
        let daemon = lab.subject.start_with(&node, &["-f", CONF])?;
        let patient = lab.always().within(LIMIT.saturating_mul(3));
        patient.log(&node, "Gained quorum")?;
        lab.timeline().poll(LIMIT.saturating_mul(3), "all servers were found good", || {
            let all = node.must(["ipvsadm", "--save", "--numeric"])?.lines().count();
            Ok((all == usize::from(FARM) + 1).then_some(()))
        })?;
        let before = taken(lab, &node).len();
        let mark = lab.mark();
        drop(web);
        let (gone, _) =
            lab.after(mark).within(LIMIT.saturating_mul(3)).log(&node, "Lost quorum")?;
        let down = |n: u16| format!("Realserver [10.3.{}.{}]:tcp:80", n / 200, n % 200 + 1);
        lab.timeline().poll(LIMIT.saturating_mul(3), "a mail names each server", || {
            let all = taken(lab, &node).split_off(before.min(taken(lab, &node).len()));
            let text: String = all.iter().map(|(_, lines)| lines.join("\n") + "\n").collect();
            Ok((0..FARM).all(|n| text.contains(&format!("{} ", down(n)))).then_some(()))
        })?;
        let all = taken(lab, &node).split_off(before);
        let subjects: Vec<&str> = all.iter().map(|(subject, _)| subject.as_str()).collect();
        // The machine needs some time to detect all dead servers. The quorum's mail may be preceded by those accepted
        // by then, those under way, and as many that end at the same time.
        let earlier = lab.after(mark).all(|event| match &event.what {
            What::Log { source, .. } if &**source == "smtp" && event.at < gone => Some(()),
            _ => None,
        });
        let is_quorum =
            |subject: &&str| subject.contains("Virtualserver") && subject.ends_with("DOWN");
        let quorum = subjects.iter().position(is_quorum);
        let most = earlier.len() + 8;
        check!(quorum.is_some_and(|at| at <= most), "{} earlier: {subjects:#?}", earlier.len());
        // Single mails for a few, digests for the others.
        check!(all.len() * 4 < usize::from(FARM), "{} mails: {subjects:#?}", all.len());
        check!(subjects.iter().any(|subject| subject.contains(" alerts, the first")), "no digest");
        let lost = lab.always().logs(&node, "dropped");
        check!(lost.is_empty(), "{lost:?}");
        check!(daemon.stop()?, "the exit status is not zero");
        Ok(())
    }

    fn a_stop_does_not_wait_for_a_server_that_takes_nothing(lab: &mut Lab) -> Res {
        lab.subject.ours_only("it loses mails of a flood without a log line")?;
        let node = director(lab, FARM)?;
        let web = Server::start(&node, "0.0.0.0:80", |_, _| {})?;
        let _mail = Server::start(&node, "127.0.0.1:25", |mut stream, _| {
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        })?;
        let daemon = lab.subject.start_with(&node, &["-f", CONF])?;
        let patient = lab.always().within(LIMIT.saturating_mul(3));
        patient.log(&node, "Gained quorum")?;
        drop(web);
        patient.log(&node, "Lost quorum")?;
        let mark = lab.mark();
        daemon.signal(Signal::SIGTERM)?;
        // Unsent mails are reported.
        lab.after(mark).log(&node, "programs and mails are not finished")?;
        check!(daemon.ended(mark)?, "the exit status is not zero");
        Ok(())
    }
}
