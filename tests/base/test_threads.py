import pytest
import torch

from fairveil.base.threads import apply_side_by_side, one_thread, side_by_side


@pytest.fixture
def parts():
    torch.manual_seed(1)
    networks = [torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5), torch.nn.Tanh(), torch.nn.Flatten()) for _ in range(3)]
    return networks, torch.rand(2, 3, 16, 16, requires_grad=True)


def _value_and_gradient(networks, pictures, cores):
    seen = []

    def noting(network, at):
        seen.append(torch.get_num_threads())
        return network(at)

    with one_thread(), side_by_side(cores) as together:
        outputs = apply_side_by_side(together, [(lambda at, n=n: noting(n, at), pictures * 2) for n in networks])
        total = sum((n + 1) * output.square().sum() for n, output in enumerate(outputs))
        (gradient,) = torch.autograd.grad(total, pictures)
    assert set(seen) == {1}
    return total.detach(), gradient


def test_the_number_of_cores_changes_no_bit_and_the_gradient_is_that_of_autograd(parts):
    networks, pictures = parts
    expected = sum((n + 1) * network(pictures * 2).square().sum() for n, network in enumerate(networks))
    (slope,) = torch.autograd.grad(expected, pictures)
    value, gradient = _value_and_gradient(networks, pictures, cores=1)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, slope)
    for cores in (2, 3):
        assert all(map(torch.equal, _value_and_gradient(networks, pictures, cores), (value, gradient)))


def test_no_graph_is_kept_where_no_gradient_is_wanted(parts):
    networks, pictures = parts
    with side_by_side(2) as together, torch.no_grad():
        (output,) = apply_side_by_side(together, [(networks[0], pictures)])
    assert not output.requires_grad


def test_an_error_in_one_part_is_raised_as_it_is():
    def fail(at):
        raise ValueError("no such face")

    with pytest.raises(ValueError, match="no such face"), side_by_side(2) as together:
        apply_side_by_side(together, [(torch.square, torch.ones(1)), (fail, torch.ones(1))])


def test_the_threads_of_networks_are_as_before_once_the_block_ends():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(ValueError), one_thread() as cores:
            assert (cores, torch.get_num_threads()) == (3, 1)
            raise ValueError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
