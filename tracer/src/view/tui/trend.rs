//! A row's `current` over the last ticks as one line of blocks: the shape, not the size.

use crate::view::text::Charset;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ',', ':', '-', '=', '+', '#'];
/// Smaller changes than this share of the size stay flat: noise is no trend.
const FLAT: f64 = 0.02;

/// The whole trend in exactly `columns`, newest at the right; a blank where nothing is known.
pub fn line(trend: &[Option<u64>], columns: usize, charset: Charset) -> String {
    let levels = match charset {
        Charset::Unicode => BLOCKS,
        Charset::Ascii => ASCII,
    };
    let known = || trend.iter().flatten().copied();
    let (Some(least), Some(most)) = (known().min(), known().max()) else {
        return " ".repeat(columns);
    };
    let span = ((most - least) as f64).max(most as f64 * FLAT).max(1.0);
    let cells = columns.min(trend.len());
    let mut line = " ".repeat(columns - cells);
    line.extend((0..cells).map(|cell| {
        // The newest reading of the cell's share of the trend.
        let newest = (cell + 1) * trend.len() / cells - 1;
        trend[newest].map_or(' ', |bytes| {
            let level = (bytes - least) as f64 / span * (levels.len() - 1) as f64;
            levels[(level.round() as usize).min(levels.len() - 1)]
        })
    }));
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shapes() {
        let rising: Vec<_> = (0..16).map(|n| Some(n * 100)).collect();
        assert_eq!(line(&rising, 8, Charset::Unicode), "▁▂▃▄▅▆▇█");
        assert_eq!(line(&rising, 8, Charset::Ascii), "_.,:-=+#");
        assert_eq!(line(&[Some(1000), Some(1001)], 4, Charset::Unicode), "  ▁▁");
        assert_eq!(line(&[None, Some(0), None], 3, Charset::Unicode), " ▁ ");
        assert_eq!(line(&[], 3, Charset::Unicode), "   ");
        assert_eq!(line(&rising, 0, Charset::Unicode), "");
    }

    proptest! {
        #[test]
        fn always_as_wide_as_asked(trend in proptest::collection::vec(any::<Option<u64>>(), 0..90), columns in 0usize..70) {
            prop_assert_eq!(line(&trend, columns, Charset::Unicode).chars().count(), columns);
        }
    }
}
