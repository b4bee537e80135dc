import { Errors } from 'moleculer';
import { describe, expect, it } from 'vitest';
import { ERRORS, TwinmeshError } from '../../../actors/protocol/errors.ts';
import { asTwinmeshError, problemOf } from '../../../services/gateway/problem.ts';

describe('asTwinmeshError', () => {
  it.each([
    [new Errors.ValidationError('no', 'VALIDATION', [{ field: 'a', message: 'The a is required.' }]), 'bad_request'],
    [new Errors.ServiceNotFoundError({ action: 'x' }), 'unavailable'],
    [new Errors.ServiceNotAvailableError({ action: 'x' }), 'unavailable'],
    [new Errors.RequestTimeoutError({ action: 'x', nodeID: 'n' }), 'deadline_exceeded'],
    [new Errors.RequestSkippedError({ action: 'x', nodeID: 'n' }), 'deadline_exceeded'],
    [new Errors.QueueIsFullError({ action: 'x', nodeID: 'n' }), 'overloaded'],
    [{ name: 'Error', code: 'not_owner', message: 'from another node' }, 'not_owner'],
    [{ code: 'constructor' }, 'internal'],
    [new Error('password=hunter2'), 'internal'],
    ['text', 'internal'],
    [undefined, 'internal'],
  ])('%s is %s', (thrown, code) => {
    expect(asTwinmeshError(thrown).code).toBe(code);
  });

  it('does not tell what failed inside', () => {
    const error = asTwinmeshError(new Error('password=hunter2'));
    expect(JSON.stringify(problemOf(error, '/x', 'r'))).not.toContain('hunter2');
    expect(error.cause).toBeInstanceOf(Error);
  });

  it('names the fields of a validation', () => {
    const thrown = new Errors.ValidationError('no', 'V', [{ field: 'a', message: 'The a is required.' }]);
    expect(problemOf(asTwinmeshError(thrown), '/x', 'r')).toMatchObject({
      detail: 'The a is required.',
      errors: [{ field: 'a', message: 'The a is required.' }],
    });
  });

  it('names the value that is none of a list, and the list', () => {
    const fault = { type: 'enumValue', field: 'role', expected: 'viewer, admin', actual: 'boss', message: 'no' };
    const thrown = new Errors.ValidationError('no', 'V', [fault]);
    expect(asTwinmeshError(thrown).message).toBe('role: "boss" is none of viewer, admin.');
  });
});

describe('problemOf', () => {
  it('has the word beside the number', () => {
    expect(problemOf(new TwinmeshError('not_found', 'No such twin.'), '/api/v1/twins/x', 'req-1')).toEqual({
      type: '/docs#error-not_found',
      title: 'Not found',
      status: 'error',
      http_status: 404,
      detail: 'No such twin.',
      code: 'not_found',
      instance: '/api/v1/twins/x',
      request_id: 'req-1',
      remedy: ERRORS.not_found.remedy,
      retryable: false,
    });
  });
});
