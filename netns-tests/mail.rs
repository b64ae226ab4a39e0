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

/// Waits for the mail of svr1 with this subject and looks at all of it.
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

/// Elections, announcements and adverts come at their time while mails cannot be sent.
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
    // The address may be told of before the advert that went out before it; the silence of the cut is not meant.
    later.some_adverts(&pair.svr1, 1)?;
    steady(lab, lab.mark(), &pair.svr1, 3)
}

/// In the end one line says that a mail was not sent.
fn given_up(lab: &Lab, pair: &Pair) -> Res {
    lab.subject.ours_only("it tries once")?;
    let limit = LIMIT.saturating_mul(5);
    let (_, line) = lab.always().within(limit).log(&pair.svr1, "given up")?;
    check!(line.contains("VRRP1") && line.contains("BACKUP"), "{line}");
    Ok(())
}
