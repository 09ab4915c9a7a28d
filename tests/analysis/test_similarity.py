import io

import numpy as np
import pytest

from mnm_jax.analysis import similarity


@pytest.mark.parametrize("include_same_step", [True, False])
def test_agrees_with_a_loop(include_same_step):
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(2, 5, 3, 4))
    result = similarity.cosine_similarity(rows, columns, include_same_step=include_same_step)
    for t in range(5):
        for u in range(5):
            is_earlier = u <= t if include_same_step else u < t
            assert np.ma.is_masked(result[t, u]) != is_earlier
            if is_earlier:
                norms = [np.sqrt(sum(a**2 for a in rows[t, h]) * sum(b**2 for b in columns[u, h])) for h in range(3)]
                heads = [sum(rows[t, h] * columns[u, h]) / norms[h] for h in range(3)]
                assert result[t, u] == pytest.approx(sum(heads) / 3, abs=1e-12)


def test_to_the_nearest_agrees_with_a_loop():
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(4, 2, 5)), rng.normal(size=(4, 3, 5))
    columns[0, 1] = 2 * rows[2, 0]  # Found, by another read than that of its head's number.
    result = similarity.cosine_similarity(rows, columns, include_same_step=True, to_nearest=True)
    for t in range(4):
        for u in range(t + 1):
            cosines = [[a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for b in columns[u]] for a in rows[t]]
            assert result[t, u] == pytest.approx(np.mean([max(of_read) for of_read in cosines]), abs=1e-12)
        assert result.mask[t, t + 1 :].all()


def test_parallel_opposite_and_zero_vectors():
    keys = np.array([[1.0, 2.0], [-3.0, -6.0], [0.0, 0.0], [2.0, 4.0]])[:, None]
    result = similarity.cosine_similarity(keys, keys, include_same_step=True)
    np.testing.assert_allclose(result[3], [1, -1, 0, 1])
    assert np.abs(result).max() <= 1


def test_wrong_shapes_are_an_error():
    with pytest.raises(ValueError, match=r"want one shape \[T, H, K\], got \(2, 1, 3\) and \(2, 1, 4\)"):
        similarity.cosine_similarity(np.zeros((2, 1, 3)), np.zeros((2, 1, 4)), include_same_step=True)
    with pytest.raises(ValueError, match=r"want \[T, R, K\] and \[T, H, K\], got \(2, 1, 3\) and \(2, 2, 4\)"):
        similarity.cosine_similarity(np.zeros((2, 1, 3)), np.zeros((2, 2, 4)), include_same_step=True, to_nearest=True)


def test_figure_has_four_titled_panels(episode):
    figure = similarity.figure(episode, "MNM-p: an episode")
    *panels, bar = figure.axes
    assert [panel.get_title() for panel in panels] == [
        "Read key against earlier write keys",
        "Read value against earlier write values",
        "Write key against earlier write keys",
        "Write value against earlier write values",
    ]
    pairs = (("read_keys", "write_keys"), ("read_values", "write_values"))
    pairs += (("write_keys", "write_keys"), ("write_values", "write_values"))
    for panel, (rows, columns) in zip(panels, pairs, strict=True):
        (image,) = panel.images
        wanted = similarity.cosine_similarity(episode[rows], episode[columns], include_same_step=rows != columns)
        np.testing.assert_array_equal(image.get_array().filled(9), wanted.filled(9))
        assert image.get_clim() == (-1, 1)
        for axis in (panel.xaxis, panel.yaxis):
            assert [label.get_text() for label in axis.get_ticklabels()] == list("a:$;a?")
        assert panel.get_xlabel() == f"{columns[:-1].replace('_', ' ')} of the earlier step"
        assert panel.get_ylabel() == f"{rows[:-1].replace('_', ' ')} of the step"
    assert bar.get_xlabel() == "cosine similarity; at the axes: what was read at the step"
    assert figure.get_suptitle().startswith("MNM-p: an episode\n")
    assert figure.get_suptitle().endswith("mean over 2 heads")


def test_a_memory_that_reads_in_a_chain_reads_more_often_and_writes_a_step_later(episode):
    num_steps = len(episode["labels"])
    episode |= {name: np.concatenate([episode[name]] * 2, axis=1) for name in ("read_keys", "read_values")}
    episode |= {"rate": np.arange(1.0, 1 + 2 * num_steps).reshape(num_steps, 2)}
    episode |= {name: np.arange(float(num_steps)) for name in ("error_before", "error_after")}
    with pytest.raises(ValueError, match="want one shape"):
        similarity.figure(episode, "MNM-p")
    figure = similarity.figure(episode, "MNM-p", is_chained=True, show_writes=True)
    assert figure.get_suptitle().endswith(
        "\nreads: mean over 4, each with the nearest of 2 writes; writes: mean over 2 heads"
    )
    reads, _, writes, *_, rate, error = (axes for axes in figure.axes)
    decided = np.concatenate([episode["write_keys"][1:], np.full((1, 2, episode["write_keys"].shape[2]), np.nan)])
    wanted = similarity.cosine_similarity(episode["read_keys"], decided, include_same_step=False, to_nearest=True)
    np.testing.assert_array_equal(reads.images[0].get_array().filled(9), wanted.filled(9))
    wanted = similarity.cosine_similarity(decided, decided, include_same_step=False)
    assert np.ma.getmaskarray(writes.images[0].get_array())[-1].all()  # The last decision is not written any more.
    np.testing.assert_array_equal(writes.images[0].get_array()[:-1].filled(9), wanted[:-1].filled(9))
    np.testing.assert_allclose([bar.get_height() for bar in rate.patches][:-1], episode["rate"][1:].mean(axis=1))
    np.testing.assert_array_equal(error.lines[0].get_ydata()[:-1], np.arange(1.0, num_steps))


def test_dollar_signs_are_drawn_as_they_are(episode):
    # As mathematics this would be an error at drawing time.
    episode["labels"] = np.array(["$\\x$"] * 6)
    similarity.figure(episode, "title").savefig(io.BytesIO(), dpi=20)


@pytest.mark.parametrize(("steps", "every"), [(20, 1), (40, 1), (100, 3)])
def test_labels_stay_legible_and_visible_on_a_page(steps, every):
    arrays = {name: np.ones((steps, 1, 2)) for name in similarity.FIELDS[1:]}
    figure = similarity.figure({"labels": np.array([" ", *(f"b{i}" for i in range(1, steps))])} | arrays, "")
    assert figure.get_figwidth() == 8
    assert "heads" not in figure.get_suptitle()
    panel = figure.axes[0]
    first, second = panel.get_xticklabels()[:2]
    assert (first.get_text(), second.get_text()) == ("\N{OPEN BOX}", f"b{every}")
    assert second.get_rotation() == 90
    # Labels along an axis do not overlap: each is thinner than the step to the next.
    figure.draw_without_rendering()
    step = panel.transData.transform([every, 0])[0] - panel.transData.transform([0, 0])[0]
    assert second.get_window_extent().width < step


def test_a_missing_array_is_an_error(episode):
    del episode["read_keys"]
    with pytest.raises(ValueError, match="read_keys missing"):
        similarity.figure(episode, "title")


def test_the_writes_are_drawn_below_if_they_are_asked_for(episode):
    with pytest.raises(ValueError, match="rate, error_before, error_after missing"):
        similarity.figure(episode, "an episode", show_writes=True)
    num_steps = len(episode["labels"])
    rates = np.linspace(0.1, 0.9, 2 * num_steps).reshape(num_steps, 2, 1)
    writes = {"rate": rates, "error_before": np.full(num_steps, 2.0), "error_after": np.arange(num_steps) / 10}
    rate, error = similarity.figure(episode | writes, "an episode", show_writes=True).axes[-2:]
    np.testing.assert_allclose([bar.get_height() for bar in rate.patches], rates.mean(axis=(1, 2)))
    before, after = error.lines
    np.testing.assert_array_equal(before.get_ydata(), writes["error_before"])
    np.testing.assert_array_equal(after.get_ydata(), writes["error_after"])
    assert [label.get_text() for label in error.get_xticklabels()] == list("a:$;a?")


def test_names_of_the_lowest_axes_do_not_touch_below_sentences(episode):
    num_steps = len(episode["labels"])
    episode["labels"] = np.array(["daniel travelled to the bedroom ."] * num_steps)
    writes = {name: np.ones(num_steps) for name in similarity.WRITE_FIELDS}
    figure = similarity.figure(episode | writes, "an episode", show_writes=True)
    figure.draw_without_rendering()
    rate, error = (axes.yaxis.label.get_window_extent() for axes in figure.axes[-2:])
    assert rate.y0 > error.y1
    page = figure.get_window_extent()
    titles = [axes.title.get_window_extent() for axes in figure.axes[:4]]
    assert all(title.x0 >= page.x0 and title.x1 <= page.x1 for title in titles)
