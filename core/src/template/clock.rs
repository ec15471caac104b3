//! The time of a rendering, which is a value of its call: there is no clock here.

use super::fail::{Outcome, refuse};
use super::repr::put;

/// A date and time of day without a zone: what `datetime.now()` is to a template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalTime {
    /// Seconds since 1970-01-01 00:00:00, local time.
    seconds: i64,
}

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A date of the Gregorian calendar.
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl LocalTime {
    /// The local time at `unix_seconds`, where clocks are `offset_seconds` ahead of UTC.
    pub fn at(unix_seconds: i64, offset_seconds: i64) -> Self {
        Self { seconds: unix_seconds.saturating_add(offset_seconds) }
    }

    fn days(self) -> i64 {
        self.seconds.div_euclid(86_400)
    }

    /// Days to a date, after Howard Hinnant's `civil_from_days`.
    fn date(self) -> Date {
        let shifted = self.days().saturating_add(719_468);
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Date {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * shifted_month + 2) / 5 + 1,
        }
    }

    fn day_of_year(self, date: &Date) -> i64 {
        let leap = date.year % 4 == 0 && (date.year % 100 != 0 || date.year % 400 == 0);
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let before = usize::try_from(date.month - 1).ok().and_then(|at| before.get(at)).copied();
        before.unwrap_or_default() + date.day + i64::from(leap && date.month > 2)
    }

    /// `strftime(format)` as glibc does it in the C locale; what it might do otherwise is refused.
    pub(super) fn format(self, format: &str) -> Outcome<String> {
        let date = self.date();
        if !(1000..10_000).contains(&date.year) {
            return Err(refuse("a year of other than four digits"));
        }
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(character) = chars.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            let mut directive = chars.next();
            let flag = directive.filter(|c| matches!(c, '-' | '_' | '0'));
            if flag.is_some() {
                directive = chars.next();
            }
            self.directive(&mut out, &date, directive, flag)?;
        }
        Ok(out)
    }

    fn directive(
        self,
        out: &mut String,
        date: &Date,
        directive: Option<char>,
        flag: Option<char>,
    ) -> Outcome<()> {
        let of_day = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        let weekday = (self.days() + 4).rem_euclid(7);
        let name = |names: &[&'static str], at: i64| {
            usize::try_from(at).ok().and_then(|at| names.get(at)).copied().unwrap_or_default()
        };
        let day_of_year = self.day_of_year(date);
        let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
        // Number, width, what it is padded with.
        let number = match directive {
            Some('d') => Some((date.day, 2, '0')),
            Some('e') => Some((date.day, 2, ' ')),
            Some('m') => Some((date.month, 2, '0')),
            Some('y') => Some((date.year % 100, 2, '0')),
            Some('Y') => Some((date.year, 4, '0')),
            Some('C') => Some((date.year / 100, 2, '0')),
            Some('H') => Some((hour, 2, '0')),
            Some('k') => Some((hour, 2, ' ')),
            Some('I') => Some((hour12, 2, '0')),
            Some('l') => Some((hour12, 2, ' ')),
            Some('M') => Some((minute, 2, '0')),
            Some('S') => Some((second, 2, '0')),
            Some('j') => Some((day_of_year, 3, '0')),
            Some('U') => Some(((day_of_year + 6 - weekday) / 7, 2, '0')),
            Some('W') => Some(((day_of_year + 6 - (weekday + 6) % 7) / 7, 2, '0')),
            Some('w') => Some((weekday, 1, '0')),
            Some('u') => Some((if weekday == 0 { 7 } else { weekday }, 1, '0')),
            _ => None,
        };
        if let Some((value, width, fill)) = number {
            match flag.unwrap_or(if fill == '0' { '0' } else { '_' }) {
                '-' => put(out, format_args!("{value}")),
                '_' => put(out, format_args!("{value:width$}")),
                _ => put(out, format_args!("{value:0width$}")),
            }
            return Ok(());
        }
        if flag.is_some() {
            return Err(refuse("a flag in the format of a time"));
        }
        let (month, day) = (name(&MONTHS, date.month - 1), name(&DAYS, weekday));
        let short = |name: &'static str| name.get(..3).unwrap_or_default();
        match directive {
            Some('a') => out.push_str(short(day)),
            Some('A') => out.push_str(day),
            Some('b' | 'h') => out.push_str(short(month)),
            Some('B') => out.push_str(month),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('P') => out.push_str(if hour < 12 { "am" } else { "pm" }),
            // A naive time has neither zone nor offset.
            Some('z' | 'Z') => {}
            Some('%') => out.push('%'),
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('c') => out.push_str(&self.format("%a %b %e %H:%M:%S %Y")?),
            Some('x' | 'D') => out.push_str(&self.format("%m/%d/%y")?),
            Some('X' | 'T') => out.push_str(&self.format("%H:%M:%S")?),
            Some('F') => out.push_str(&self.format("%Y-%m-%d")?),
            Some('R') => out.push_str(&self.format("%H:%M")?),
            Some('r') => out.push_str(&self.format("%I:%M:%S %p")?),
            _ => return Err(refuse("this directive in the format of a time")),
        }
        Ok(())
    }
}
