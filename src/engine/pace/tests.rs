//! Against clocks and platforms made up for it.

use super::*;

fn pace(per_second: u32) -> Pace {
    Pace::new(PaceLimits { per_second, ..PaceLimits::default() })
}

const SECOND: Duration = Duration::from_secs(1);

/// How many requests leave and are answered within a second from `start`.
fn leave_in_a_second(pace: &mut Pace, start: Duration) -> u32 {
    let mut left = 0;
    let mut now = start;
    loop {
        match pace.permit(now) {
            Permit::Go => {
                pace.leaves(now);
                pace.back(&Answer::Revoked, now, now, 0);
                left += 1;
            }
            Permit::At(at) => now = at,
            Permit::WhenBack => unreachable!("everything is answered at once"),
        }
        if now >= start + SECOND {
            return left;
        }
    }
}

#[test]
fn no_more_leave_than_the_configured_rate_and_a_small_burst() {
    let left = leave_in_a_second(&mut pace(200), SECOND);
    assert!((200..=212).contains(&left), "{left}");
}

#[test]
fn a_429_slows_down_and_quiet_seconds_give_it_back() {
    let mut pace = pace(200);
    pace.leaves(SECOND);
    let change = pace.back(&Answer::TooManyRequests(Some(SECOND * 2)), SECOND, SECOND, 0);
    assert_eq!(change, Change::Rests(RestReason::TooManyRequests, SECOND * 2));
    assert_eq!(pace.permit(SECOND), Permit::At(SECOND * 3));
    pace.leaves(SECOND * 3);
    assert_eq!(pace.permit(SECOND * 3), Permit::WhenBack, "one probe and no more");
    assert_eq!(pace.back(&Answer::Revoked, SECOND * 3, SECOND * 3, 0), Change::Resumes(RestReason::TooManyRequests));
    assert!(pace.rate(SECOND) < 141.0);
    assert!((189.0..191.0).contains(&pace.rate(SECOND * 2)), "close to where the 429 came, and not there");
    assert!(pace.rate(SECOND * 60) > 199.0);
}

#[test]
fn a_platform_that_asks_for_no_rest_is_not_probed_faster_than_the_configured_rate() {
    let mut pace = pace(3);
    let (mut now, mut sent) = (SECOND, 0);
    while now < SECOND * 11 {
        match pace.permit(now) {
            Permit::Go => {
                pace.leaves(now);
                sent += 1;
                pace.back(&Answer::TooManyRequests(Some(Duration::ZERO)), now, now, 0);
            }
            Permit::At(at) => now = at,
            Permit::WhenBack => unreachable!("everything is answered at once"),
        }
    }
    assert!(sent <= 31, "{sent} requests in ten seconds");
}

/// A platform that lets `rate` requests per second through, in bursts of a tenth of a second at most, and answers 429
/// beyond, each after two milliseconds. Returns how many it let through and refused within each second.
fn against(pace: &mut Pace, rate: u32, seconds: u64) -> Vec<(u32, u32)> {
    const LATENCY: Duration = Duration::from_millis(2);
    let interval = SECOND / rate;
    let mut full_at = SECOND;
    let mut out: std::collections::VecDeque<(Duration, bool)> = std::collections::VecDeque::new();
    let mut counts = vec![(0, 0); usize::try_from(seconds).unwrap()];
    let mut now = SECOND;
    while now < SECOND * u32::try_from(seconds + 1).unwrap() {
        let answered = out.front().map(|(at, _)| *at);
        if let Some((_, good)) = out.pop_front_if(|(at, _)| *at <= now) {
            let count = &mut counts[usize::try_from(now.as_secs() - 1).unwrap()];
            let answer = if good { Answer::Revoked } else { Answer::TooManyRequests(None) };
            *if good { &mut count.0 } else { &mut count.1 } += 1;
            pace.back(&answer, now - LATENCY, now, u64::MAX / 2);
            continue;
        }
        match pace.permit(now) {
            Permit::Go => {
                pace.leaves(now);
                let after = full_at.max(now) + interval;
                let good = after - now <= SECOND / 10;
                full_at = if good { after } else { full_at };
                out.push_back((now + LATENCY, good));
            }
            // As coarse as the timers are.
            Permit::At(at) => now = answered.map_or(at, |answered| answered.min(at)).max(now + SECOND / 1000),
            Permit::WhenBack => now = answered.unwrap(),
        }
    }
    counts
}

#[test]
fn a_limit_that_nobody_tells_is_found_and_kept_to() {
    for (configured, limit) in [(3000, 2000), (10_000, 2000), (200, 150), (2000, 2000), (1000, 100)] {
        let mut pace = pace(configured);
        let counts = against(&mut pace, limit, 60);
        let (good, refused) =
            counts[10..].iter().fold((0, 0), |(good, refused), count| (good + count.0, refused + count.1));
        let share = f64::from(good) / f64::from(50 * limit);
        assert!(share > 0.95, "{configured} for {limit}: {share} of what was allowed; {counts:?}");
        let refused = f64::from(refused) / f64::from(good + refused);
        assert!(refused < 0.01, "{configured} for {limit}: {refused} refused; {counts:?}");
    }
}

#[test]
fn a_429_now_and_then_slows_down_and_holds_up_nothing() {
    let mut pace = pace(200);
    for _ in 0..50 {
        pace.leaves(SECOND);
        assert_eq!(pace.back(&Answer::TooManyRequests(None), SECOND, SECOND, 0), Change::None);
        pace.leaves(SECOND);
        assert_eq!(pace.back(&Answer::Revoked, SECOND, SECOND, 0), Change::None);
    }
    assert_eq!(pace.resting(SECOND), None);
}

#[test]
fn a_platform_that_refuses_everything_is_left_alone_and_comes_back_to_its_pace() {
    let mut pace = pace(200);
    let mut now = SECOND;
    let mut sent = 0;
    while now < SECOND * 60 {
        match pace.permit(now) {
            Permit::Go => {
                pace.leaves(now);
                sent += 1;
                pace.back(&Answer::TooManyRequests(None), now, now, u64::MAX / 2);
            }
            Permit::At(at) => now = at,
            Permit::WhenBack => unreachable!("everything is answered at once"),
        }
    }
    assert!(sent < 40, "{sent} requests in a minute");
    let now = SECOND * 120;
    pace.leaves(now);
    assert_eq!(pace.back(&Answer::Revoked, now, now, 0), Change::Resumes(RestReason::TooManyRequests));
    assert!(pace.rate(now) > 130.0, "{}", pace.rate(now));
}

#[test]
fn a_platform_that_is_down_costs_one_probe_per_growing_rest() {
    let mut pace = pace(200);
    let mut now = SECOND;
    let mut sent = 0;
    let mut said = 0;
    while now < SECOND * 600 {
        match pace.permit(now) {
            Permit::Go => {
                pace.leaves(now);
                sent += 1;
                said += u32::from(pace.back(&Answer::NotSent("down".into()), now, now, u64::MAX) != Change::None);
            }
            Permit::At(at) => now = at,
            Permit::WhenBack => unreachable!("everything is answered at once"),
        }
    }
    assert!(sent < 25, "{sent} requests in ten minutes");
    assert_eq!(said, 1, "one change of state, one line");
}

#[test]
fn answers_of_requests_from_before_the_rest_do_not_end_it() {
    let mut pace = pace(200);
    pace.leaves(SECOND);
    pace.leaves(SECOND);
    pace.back(&Answer::TooManyRequests(Some(SECOND)), SECOND, SECOND, 0);
    assert_eq!(pace.back(&Answer::Revoked, SECOND, SECOND, 0), Change::None);
    assert_eq!(pace.permit(SECOND), Permit::At(SECOND * 2));
}

#[test]
fn an_answer_that_got_lost_does_not_shorten_the_rest_that_was_asked_for() {
    let mut pace = pace(200);
    pace.leaves(SECOND);
    pace.leaves(SECOND);
    pace.back(&Answer::TooManyRequests(Some(SECOND * 30)), SECOND, SECOND, 0);
    assert_eq!(pace.back(&Answer::Lost("reset".into()), SECOND, SECOND * 2, 0), Change::None, "the same news");
    assert_eq!(pace.permit(SECOND * 3), Permit::At(SECOND * 31));
}

#[test]
fn a_429_that_asks_for_no_rest_is_no_invitation_to_a_storm() {
    let mut pace = pace(200);
    let mut now = SECOND;
    let mut sent = 0;
    while now < SECOND * 2 {
        match pace.permit(now) {
            Permit::Go => {
                pace.leaves(now);
                sent += 1;
                assert!(sent < 20, "a storm");
                pace.back(&Answer::TooManyRequests(Some(Duration::ZERO)), now, now, 0);
            }
            Permit::At(at) => now = at,
            Permit::WhenBack => unreachable!("everything is answered at once"),
        }
    }
}
